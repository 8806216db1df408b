"""The trunk: pictures and sentences in one space, and where in a picture the things are that a sentence names.

Convolutions see a picture once. A sentence becomes two questions: which thing is to be acted on, and where to (its
goal). Patch and question are unit vectors of one space, as in CLIP (Radford et al. 2021, arXiv 2103.00020), and where
a patch answers a question is where the thing is. Two losses teach it, from scenes in which the things are known:

- contrast: the patch at a thing goes with the sentences of the batch that name such a thing, and with no others
  (CLIP's loss, with all pairs of one name as positives: Khosla et al. 2020, arXiv 2004.11362);
- look: of all patches of the picture and "nowhere", the one at the named thing answers; its place, finer than a patch,
  is that of the patch and an offset that it says.

Networks take it as their encoder of pictures and of words (`trunk_encoders`). It is saved as `trunk.json` and
`weights.safetensors`, which hold all that it needs.

Shapes: B scenes, N sentences each, M = B * N, T words, C channels, D numbers of the shared space, K = 2 questions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.errors import CheckpointError, ContractError
from vla_ros.models.batch import ModelInput, ModelTarget
from vla_ros.models.layers.encoders import TextEncoder, mean_over_words
from vla_ros.models.layers.pointing import pointing_loss, spatial_expectation
from vla_ros.models.losses import total
from vla_ros.paths import share_file

KIND = "trunk"
"""What a line of a network's configuration calls it."""

STRIDE = 8
"""Pixels of a picture that one patch spans, each way."""

QUESTIONS = 2
"""The thing, and its goal."""

TRUNK_FILE, WEIGHTS_FILE = "trunk.json", "weights.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes of the trunk.

    Attributes:
        vocabulary: How many words there are, padding and unknown among them.
        channels: Of the feature map, C.
        width: Numbers of the shared space, D.
        words: Most words of a sentence.
        depth: Blocks over the words.
        heads: Of these blocks.
        kinds: Classes of `kind` that training tells apart; the next one stands for "no goal".
    """

    vocabulary: int
    channels: int = 96
    width: int = 128
    words: int = 16
    depth: int = 1
    heads: int = 4
    kinds: int = 6

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrunkConfig:
        """Read plain values.

        Raises:
            ContractError: for lines that are missing, unknown, or no positive whole numbers.
        """
        wrong = {name: value for name, value in values.items() if not isinstance(value, int) or value < 1}
        try:
            if wrong:
                raise TypeError(f"{wrong}: expected positive whole numbers")
            return cls(**values)
        except TypeError as error:
            raise ContractError(f"a trunk cannot be built from {dict(values)}: {error}") from error


@dataclass(frozen=True)
class Grounding:
    """Where a picture answers the questions of M sentences.

    Attributes:
        look: (M, K, h', w') weights over patches, summing to 1.
        seen: (M, K), the probability that it is in the picture at all.
        places: (M, K, 2), where, (x, y) from 0 to 1.
        features: (M, K, C), what is there.
    """

    look: Tensor
    seen: Tensor
    places: Tensor
    features: Tensor


class TrunkVision(nn.Module):
    """The half that sees."""

    def __init__(self, config: TrunkConfig) -> None:
        """Build with random weights."""
        super().__init__()
        c, self.channels = config.channels, config.channels
        self.layers = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, c, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        self.patch = nn.Conv2d(c, config.width, 1)
        self.offset = nn.Conv2d(c, 2, 1)
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.nowhere = nn.Parameter(torch.zeros(QUESTIONS))

    def forward(self, image: Tensor) -> Tensor:
        """Return the feature map (B, C, h / 8, w / 8) of pictures (B, 3, h, w), 0 to 1."""
        return self.layers((image - 0.5).contiguous(memory_format=torch.channels_last))

    def patches(self, features: Tensor) -> Tensor:
        """Return the patches (B, D, h', w') of a feature map (B, C, h', w'), unit vectors of the shared space."""
        return functional.normalize(self.patch(features), dim=1)

    def answers(self, features: Tensor, questions: Tensor) -> Tensor:
        """Return log probabilities (B, N, K, P + 1): of each patch, and of nowhere, for questions (B, N, K, D)."""
        patches = self.patches(features).flatten(2)
        cosine = (questions.flatten(1, 2) @ patches).unflatten(1, questions.shape[1:3])
        nowhere = self.nowhere.view(-1, 1).expand(*cosine.shape[:3], 1)
        return torch.cat([self.scale.exp() * cosine, nowhere], dim=-1).log_softmax(dim=-1)

    def ground(self, features: Tensor, questions: Tensor) -> Grounding:
        """Return where a feature map (B, C, h', w') answers questions (B, N, K, D)."""
        (height, width), logs = features.shape[-2:], self.answers(features, questions)
        look = logs[..., :-1].softmax(dim=-1)  # if it is there, where
        cells = look.new_tensor([width, height])
        middle = 0.5 * (spatial_expectation(look, (height, width)) + 1.0) * (cells - 1.0) + 0.5
        flat = features.flatten(2).transpose(1, 2)[:, None]
        offset = look @ self.offset(features).flatten(2).transpose(1, 2)[:, None]
        return Grounding(
            look=look.unflatten(-1, (height, width)).flatten(0, 1),
            seen=1.0 - logs[..., -1].exp().flatten(0, 1),
            places=((middle + offset) / cells).flatten(0, 1),
            features=(look @ flat).flatten(0, 1),
        )


class TrunkText(nn.Module):
    """The half that reads."""

    def __init__(self, config: TrunkConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.words = TextEncoder(config.vocabulary, config.width, config.words, config.depth, config.heads)
        self.ask = nn.Linear(config.width, QUESTIONS * config.width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return words (M, T, D), which are real (M, T), and questions (M, K, D), unit, of sentences (M, T)."""
        words, real = self.words(tokens)
        asked = self.ask(mean_over_words(words, real)).unflatten(-1, (QUESTIONS, -1))
        return words, real, functional.normalize(asked, dim=-1)


class Trunk(nn.Module):
    """Both halves, and what teaches them."""

    def __init__(self, config: TrunkConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        self.vision, self.text = TrunkVision(config), TrunkText(config)

    def questions(self, tokens: Tensor) -> Tensor:
        """Return the questions (B, N, K, D) of sentences (B, N, T)."""
        return self.text(tokens.flatten(0, 1))[2].unflatten(0, tokens.shape[:2])

    def compute_loss(self, given: ModelInput, wanted: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss: where the named things and goals are in each picture, and what they are called.

        Raises:
            ValueError: when the places of things in the pictures, or the concepts, are missing.
        """
        if not wanted.concepts or any(name not in wanted.pixels for name in given.images):
            raise ValueError("a trunk is taught where the named things are: `pixels` or `concepts` are missing")
        questions, parts, seen = self.questions(given.tokens), {}, []
        names = thing_names(wanted)
        for camera, image in given.images.items():
            features = self.vision(image)
            pixels = asked_pixels(wanted, camera)
            parts |= self._look_losses(camera, features, questions, pixels, known(wanted, self.config.kinds))
            there = torch.isfinite(pixels).all(dim=-1)
            seen.append((self.at(features, pixels)[there], questions[there], names[there]))
        patches, asked, name = (torch.cat(column) for column in zip(*seen, strict=True))
        parts["contrast"] = 0.2 * contrast(self.vision.scale.exp() * patches @ asked.T, name)
        return total(parts)

    def _look_losses(
        self, camera: str, features: Tensor, questions: Tensor, pixels: Tensor, sure: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses of one camera; `pixels` (B, N, K, 2), NaN where nothing is to be seen."""
        size, there = features.shape[-2:], torch.isfinite(pixels).all(dim=-1)
        logs = self.vision.answers(features, questions)
        maps = logs[..., :-1].exp().unflatten(-1, size).flatten(1, 2)
        look = pointing_loss(maps, pixels.flatten(1, 2), there.flatten(1).float())
        absent = (sure & ~there).float()
        nowhere = -(logs[..., -1] * absent).sum() / absent.sum().clamp(min=1.0)
        places = self.vision.ground(features, questions).places.unflatten(0, questions.shape[:2])
        wrong = functional.smooth_l1_loss(places, torch.nan_to_num(pixels), reduction="none", beta=0.02).sum(dim=-1)
        place = (wrong * there).sum() / there.sum().clamp(min=1.0)
        return {f"look_{camera}": look, f"nowhere_{camera}": 0.3 * nowhere, f"place_{camera}": 5.0 * place}

    def at(self, features: Tensor, pixels: Tensor) -> Tensor:
        """Return the unit patches (B, N, K, D) at places (B, N, K, 2) of the pictures."""
        grid = 2.0 * torch.nan_to_num(pixels).flatten(1, 2)[:, :, None] - 1.0  # (B, NK, 1, 2)
        found = functional.grid_sample(self.vision.patches(features), grid, padding_mode="border", align_corners=False)
        found = functional.normalize(found[..., 0].transpose(1, 2), dim=-1)
        return found.unflatten(1, pixels.shape[1:3])


def thing_names(wanted: ModelTarget) -> Tensor:
    """Return (B, N, K) long: one number a name of a thing, for the thing and the goal of each sentence."""
    concepts, many = wanted.concepts, 1000
    pairs = (("colour", "kind"), ("goal_colour", "goal_kind"))
    return torch.stack([many * concepts[colour] + concepts[kind] for colour, kind in pairs], dim=-1)


def asked_pixels(wanted: ModelTarget, camera: str) -> Tensor:
    """Return (B, N, K, 2) where thing and goal of each sentence are in a picture, 0 to 1; NaN where nothing is."""
    thing = wanted.pixels[camera]
    goal = wanted.goal_pixels.get(camera, torch.full_like(thing, math.nan))
    both = torch.stack([thing, goal], dim=2)
    return torch.where(wanted.present[..., None, None] > 0.5, both, math.nan)


def known(wanted: ModelTarget, kinds: int) -> Tensor:
    """Return (B, N, K) bool: whether what has no pixel is known not to be seen.

    Of a sentence in vain with a goal either the thing or the goal is there, and nothing says which.
    """
    alone = wanted.concepts["goal_kind"] >= kinds
    there = wanted.present > 0.5
    return torch.stack([there | alone, there | alone], dim=-1)


def contrast(logits: Tensor, names: Tensor) -> Tensor:
    """Return the loss of n patches and n sentences, (n, n) logits, that have to find each other by `names` (n,)."""
    same = (names[:, None] == names[None]).to(logits.dtype)
    wanted = same / same.sum(dim=1, keepdim=True)
    return 0.5 * (functional.cross_entropy(logits, wanted) + functional.cross_entropy(logits.T, wanted))


@dataclass(frozen=True)
class TrunkDescription:
    """All of a saved trunk but its weights: sizes, the words of its vocabulary in order, how it was trained."""

    config: TrunkConfig
    words: tuple[str, ...]
    training: Mapping[str, Any] = field(default_factory=dict)


def trunk_folder(source: str) -> Path | None:
    """Return the folder of a saved trunk, one's own or a shipped one; None when the name is none."""
    try:
        return share_file(Path(source) / TRUNK_FILE).parent
    except FileNotFoundError:
        return None


def save_trunk(folder: Path, trunk: Trunk, description: TrunkDescription) -> None:
    """Write a trunk; a folder that holds one is whole at any time but between two renames."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, lines = folder / (WEIGHTS_FILE + ".partial"), folder / (TRUNK_FILE + ".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in trunk.state_dict().items()}, weights)
    values = {
        "format": FORMAT,
        "config": asdict(description.config),
        "words": list(description.words),
        "training": dict(description.training),
    }
    lines.write_text(json.dumps(values, indent=1), encoding="utf-8")
    weights.replace(folder / WEIGHTS_FILE)
    lines.replace(folder / TRUNK_FILE)


def describe_trunk(folder: Path) -> TrunkDescription:
    """Read all but the weights.

    Raises:
        CheckpointError: when it is missing, damaged, or of another format.
    """
    path = folder / TRUNK_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {values['format']!r}, expected {FORMAT}")
        words = tuple(str(word) for word in values["words"])
        return TrunkDescription(TrunkConfig.from_dict(values["config"]), words, values["training"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ContractError) as error:
        raise CheckpointError(f"{path} is no trunk: {error}; train one with config/training/trunk.yaml") from error


def load_weights(part: nn.Module, folder: Path, prefix: str = "") -> None:
    """Give a trunk, or the half of it called `prefix`, the weights of a folder.

    Raises:
        CheckpointError: when they are missing, damaged, not finite, or of other sizes.
    """
    path = folder / WEIGHTS_FILE
    try:
        weights = {
            name.removeprefix(prefix): value
            for name, value in load_file(path, device="cpu").items()
            if name.startswith(prefix)
        }
        if broken := [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]:
            raise CheckpointError(f"{path}: weights are not finite in {broken}")
        part.load_state_dict(weights)
    except CheckpointError:
        raise
    except Exception as error:  # safetensors and torch raise types of their own
        raise CheckpointError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error


def load_trunk(folder: Path) -> tuple[Trunk, TrunkDescription]:
    """Return a saved trunk in evaluation mode, and its description.

    Raises:
        CheckpointError: when a file is missing or damaged.
    """
    description = describe_trunk(folder)
    trunk = Trunk(description.config)
    load_weights(trunk, folder)
    return trunk.eval(), description
