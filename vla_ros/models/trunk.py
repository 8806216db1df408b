"""Trunk: embeds images and instructions in one space and locates the named objects in each image.

Convolutions process an image once. An instruction becomes two queries: the object to act on, and the place to move it
to (its goal). Patch and query are unit vectors of one space, as in CLIP (Radford et al. 2021, arXiv 2103.00020); the
object is at the patches that match the query. Two losses train it, on scenes whose objects are known:

- contrast: the patch at an object matches the instructions of the batch that name such an object, and no others
  (CLIP's loss, with all pairs of one name as positives: Khosla et al. 2020, arXiv 2004.11362);
- look: of all patches of the image and "nowhere", the patch at the named object matches the query; its position is
  that of the patch plus a predicted sub-patch offset.

Networks use it as their image encoder and text encoder (`trunk_encoders`). It is saved as `trunk.json` and
`weights.safetensors`, which are self-contained.

Shapes: B scenes, N instructions each, M = B * N, T words, C channels, D dimensions of the shared space, K = 2 queries.
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
"""Value of `kind` in a network's configuration."""

STRIDE = 8
"""Side length of an image patch, pixels."""

QUESTIONS = 2
"""Number of queries: the object and its goal."""

TRUNK_FILE, WEIGHTS_FILE = "trunk.json", "weights.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes of the trunk.

    Attributes:
        vocabulary: Number of words, including padding and unknown.
        channels: Channels of the feature map, C.
        width: Dimensions of the shared space, D.
        words: Maximum number of words of an instruction.
        depth: Number of transformer blocks over the words.
        heads: Number of attention heads of these blocks.
        kinds: Number of classes of `kind` in training; the next index stands for "no goal".
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
            ContractError: for missing or unknown keys, or values that are not positive integers.
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
    """Image locations that match the queries of M instructions.

    Attributes:
        look: (M, K, h', w') weights over patches, summing to 1.
        seen: (M, K), probability that the queried object is in the image at all.
        places: (M, K, 2), position (x, y), 0 to 1.
        features: (M, K, C), image features at that position.
    """

    look: Tensor
    seen: Tensor
    places: Tensor
    features: Tensor


class TrunkVision(nn.Module):
    """Vision half of the trunk."""

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
        """Return the feature map (B, C, h / 8, w / 8) of images (B, 3, h, w), 0 to 1."""
        features: Tensor = self.layers((image - 0.5).contiguous(memory_format=torch.channels_last))
        return features

    def patches(self, features: Tensor) -> Tensor:
        """Return the patches (B, D, h', w') of a feature map (B, C, h', w') as unit vectors of the shared space."""
        return functional.normalize(self.patch(features), dim=1)

    def answers(self, features: Tensor, questions: Tensor) -> Tensor:
        """Return log probabilities (B, N, K, P + 1) of each patch, and of nowhere, for queries (B, N, K, D)."""
        patches = self.patches(features).flatten(2)
        cosine = (questions.flatten(1, 2) @ patches).unflatten(1, questions.shape[1:3])
        nowhere = self.nowhere.view(-1, 1).expand(*cosine.shape[:3], 1)
        return torch.cat([self.scale.exp() * cosine, nowhere], dim=-1).log_softmax(dim=-1)

    def ground(self, features: Tensor, questions: Tensor) -> Grounding:
        """Locate the queries (B, N, K, D) in a feature map (B, C, h', w')."""
        (height, width), logs = features.shape[-2:], self.answers(features, questions)
        look = logs[..., :-1].softmax(dim=-1)  # distribution over patches, given that it is in the image
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
    """Text half of the trunk."""

    def __init__(self, config: TrunkConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.words = TextEncoder(config.vocabulary, config.width, config.words, config.depth, config.heads)
        self.ask = nn.Linear(config.width, QUESTIONS * config.width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode instructions (M, T); return words (M, T, D), their mask (M, T), and unit queries (M, K, D)."""
        words, real = self.words(tokens)
        asked = self.ask(mean_over_words(words, real)).unflatten(-1, (QUESTIONS, -1))
        return words, real, functional.normalize(asked, dim=-1)


class Trunk(nn.Module):
    """Both halves of the trunk and their losses."""

    def __init__(self, config: TrunkConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        self.vision, self.text = TrunkVision(config), TrunkText(config)

    def questions(self, tokens: Tensor) -> Tensor:
        """Return the queries (B, N, K, D) of instructions (B, N, T)."""
        questions: Tensor = self.text(tokens.flatten(0, 1))[2].unflatten(0, tokens.shape[:2])
        return questions

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of localizing the named objects and goals in each image and matching them to their names.

        Raises:
            ValueError: when the pixel positions of the objects, or the concepts, are missing.
        """
        if not target.concepts or any(name not in target.pixels for name in inputs.images):
            raise ValueError("a trunk is taught where the named things are: `pixels` or `concepts` are missing")
        questions, seen = self.questions(inputs.tokens), []
        parts: dict[str, Tensor] = {}
        names = thing_names(target)
        for camera, image in inputs.images.items():
            features = self.vision(image)
            pixels = asked_pixels(target, camera)
            parts |= self._look_losses(camera, features, questions, pixels, known(target, self.config.kinds))
            there = torch.isfinite(pixels).all(dim=-1)
            seen.append((self.at(features, pixels)[there], questions[there], names[there]))
        patches, asked, name = (torch.cat(column) for column in zip(*seen, strict=True))
        parts["contrast"] = 0.2 * contrast(self.vision.scale.exp() * patches @ asked.T, name)
        return total(parts)

    def _look_losses(
        self, camera: str, features: Tensor, questions: Tensor, pixels: Tensor, sure: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses of one camera; `pixels` (B, N, K, 2), NaN where nothing is visible."""
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
        """Return the unit patches (B, N, K, D) at image positions (B, N, K, 2)."""
        grid = 2.0 * torch.nan_to_num(pixels).flatten(1, 2)[:, :, None] - 1.0  # (B, NK, 1, 2)
        found = functional.grid_sample(self.vision.patches(features), grid, padding_mode="border", align_corners=False)
        found = functional.normalize(found[..., 0].transpose(1, 2), dim=-1)
        patches: Tensor = found.unflatten(1, pixels.shape[1:3])
        return patches


def thing_names(target: ModelTarget) -> Tensor:
    """Return (B, N, K) long: one number per object name, for the object and the goal of each instruction."""
    concepts, many = target.concepts, 1000
    pairs = (("colour", "kind"), ("goal_colour", "goal_kind"))
    return torch.stack([many * concepts[colour] + concepts[kind] for colour, kind in pairs], dim=-1)


def asked_pixels(target: ModelTarget, camera: str) -> Tensor:
    """Return (B, N, K, 2), image positions of each instruction's object and goal, 0 to 1; NaN if absent."""
    thing = target.pixels[camera]
    goal = target.goal_pixels.get(camera, torch.full_like(thing, math.nan))
    both = torch.stack([thing, goal], dim=2)
    return torch.where(target.target_visible[..., None, None] > 0.5, both, math.nan)


def known(target: ModelTarget, kinds: int) -> Tensor:
    """Return (B, N, K) bool: whether a query without a pixel is known to be absent.

    For an infeasible instruction with a goal, either the object or the goal is present, and the data do not say which.
    """
    alone = target.concepts["goal_kind"] >= kinds
    there = target.target_visible > 0.5
    return torch.stack([there | alone, there | alone], dim=-1)


def contrast(logits: Tensor, names: Tensor) -> Tensor:
    """Return the contrastive loss of logits (n, n) of n patches and n instructions; equal `names` (n,) match."""
    same = (names[:, None] == names[None]).to(logits.dtype)
    target = same / same.sum(dim=1, keepdim=True)
    return 0.5 * (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target))


@dataclass(frozen=True)
class TrunkDescription:
    """Description of a saved trunk without its weights: sizes, vocabulary in order, notes about its training."""

    config: TrunkConfig
    words: tuple[str, ...]
    training: Mapping[str, Any] = field(default_factory=dict)


def trunk_folder(source: str) -> Path | None:
    """Return the folder of a saved trunk, the user's or a shipped one; None for an unknown name."""
    try:
        return share_file(Path(source) / TRUNK_FILE).parent
    except FileNotFoundError:
        return None


def save_trunk(folder: Path, trunk: Trunk, description: TrunkDescription) -> None:
    """Write a trunk; an existing one in the folder stays consistent except between the two renames."""
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
    """Read the description of a trunk, without its weights.

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
    """Load the weights of a trunk, or of the half called `prefix`, from a folder.

    Raises:
        CheckpointError: when they are missing, damaged, not finite, or of another size.
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
    except Exception as error:  # safetensors and torch raise their own types
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
