"""What the networks share at their entrance: checked inputs, and encoders that turn each modality into tokens.

Shapes: B scenes, N sentences a scene, M = B * N sequences, P image tokens of all cameras, T words, D numbers a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vla_ros.errors import ContractError, InstructionError, ObservationError
from vla_ros.models.attention import Block
from vla_ros.models.contract import ModelInput, ModelTarget, check_width

Sizes = Mapping[str, tuple[int, int]]
"""Camera name to (height, width) of its images."""

PATCH_STEM, CONVOLUTION_STEM = "patch", "convolution"
FIRST_STRIDE = 4
"""Stride of the first of several convolutions."""

_Config = TypeVar("_Config")


def read_config(kind: type[_Config], values: Mapping[str, Any]) -> _Config:
    """Make the dataclass `kind` from plain values, as they stand in a checkpoint.

    Raises:
        ContractError: naming missing and unknown lines, or a camera size that is none.
    """
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    missing = [name for name in ("cameras", "vocabulary", "state_width", "horizon") if name not in values]
    if unknown := sorted(set(values) - set(known)):
        raise ContractError(f"{kind.__name__} does not know {unknown}; it takes {known}")
    if missing:
        raise ContractError(f"{kind.__name__} lacks {missing}; got {sorted(values)}")
    try:
        cameras = {str(name): (int(size[0]), int(size[1])) for name, size in values["cameras"].items()}
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ContractError(f"cameras is {values['cameras']!r}, expected name to (height, width)") from error
    if not cameras:
        raise ContractError("cameras is empty, expected at least one camera")
    if bad := {name: values[name] for name in ("vocabulary", "state_width", "horizon") if int(values[name]) < 1}:
        raise ContractError(f"{bad}: expected positive numbers")
    return kind(**{**values, "cameras": cameras})


def check_input(given: ModelInput, cameras: Sizes, vocabulary: int, state_width: int, words: int) -> None:
    """Raise when a network with these sizes cannot read `given`; `words` is the most a sentence may have.

    Looks at the values of the tokens too, except on the meta device, where they have none.

    Raises:
        ValueError: a wrong width, a wrong number of axes, or no scene at all.
        ObservationError: a camera that is missing or of another size.
        InstructionError: an empty or too long sentence, or a token that is no word.
    """
    tokens = given.tokens
    if tokens.ndim != 3 or 0 in tokens.shape or tokens.is_floating_point():
        raise ValueError(
            f"tokens have shape {tuple(tokens.shape)} {tokens.dtype}, expected whole numbers "
            "(scenes >= 1, sentences >= 1, words >= 1)"
        )
    scenes, _, length = tokens.shape
    if length > words:
        raise InstructionError(f"sentences are padded to {length} words, the network reads at most {words}")
    check_width("state", given.state, state_width)
    if tuple(given.state.shape) != (scenes, state_width):
        raise ValueError(f"state has shape {tuple(given.state.shape)}, expected {(scenes, state_width)}")
    for name, size in cameras.items():
        if name not in given.images:
            raise ObservationError(f"camera '{name}' is missing; got {sorted(given.images)}, expected {[*cameras]}")
        image = given.images[name]
        if tuple(image.shape) != (scenes, 3, *size) or not image.is_floating_point():
            raise ObservationError(
                f"camera '{name}' gave {tuple(image.shape)} {image.dtype}, expected {(scenes, 3, *size)} float, 0 to 1"
            )
    if not tokens.is_meta:
        _check_words(tokens, vocabulary)


def _check_words(tokens: Tensor, vocabulary: int) -> None:
    strange = (tokens < 0) | (tokens >= vocabulary)
    empty = (tokens == 0).all(dim=-1)
    holes = (tokens[..., :-1] == 0) & (tokens[..., 1:] != 0)
    if not bool((strange.any() | empty.any() | holes.any()).item()):  # one wait for the device
        return
    if bool(strange.any()):
        found = sorted({int(t) for t in tokens[strange].tolist()})[:5]
        raise InstructionError(f"token {found[0]} is no word: got {found}, the vocabulary has 0 to {vocabulary - 1}")
    if bool(empty.any()):
        where = empty.nonzero()[0].tolist()
        raise InstructionError(f"the instruction is empty (all padding) at (scene, sentence) {where}; expected words")
    where = holes.nonzero()[0].tolist()
    raise InstructionError(f"padding before a word at (scene, sentence, word) {where}; expected it after the last word")


def repeat_scenes(features: Tensor, sentences: int) -> Tensor:
    """(B, ...) to (B * N, ...): each scene once for every sentence about it."""
    return features.repeat_interleave(sentences, dim=0)


def flatten_sentences(given: ModelInput, wanted: ModelTarget | None = None) -> tuple[ModelInput, ModelTarget | None]:
    """Return the same with B * N scenes of one sentence each: images and state repeated, the rest reshaped."""
    scenes, sentences = given.tokens.shape[:2]

    def flat(values: Tensor) -> Tensor:
        return values.reshape(scenes * sentences, 1, *values.shape[2:])

    flat_given = ModelInput(
        {name: repeat_scenes(image, sentences) for name, image in given.images.items()},
        repeat_scenes(given.state, sentences),
        flat(given.tokens),
    )
    if wanted is None:
        return flat_given, None
    return flat_given, ModelTarget(
        positions=flat(wanted.positions),
        rotations=flat(wanted.rotations),
        gripper=flat(wanted.gripper),
        present=flat(wanted.present),
        target=None if wanted.target is None else flat(wanted.target),
        pixels={name: flat(pixels) for name, pixels in wanted.pixels.items()},
    )


def sinusoidal(positions: Tensor, width: int) -> Tensor:
    """Return (..., width): sines, then cosines, of `positions` (...) at frequencies from 1 to 1/10000.

    The embedding of Vaswani et al. (2017); for places in a sequence and for steps of a diffusion alike.
    """
    if width % 2:
        raise ContractError(f"a sinusoidal embedding needs an even width, got {width}")
    steps = torch.arange(width // 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * torch.exp(-math.log(10000.0) * steps / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def learned_positions(length: int, width: int) -> nn.Parameter:
    """Return (length, width), small and random."""
    return nn.Parameter(0.02 * torch.randn(length, width))


class ImageEncoder(nn.Module):
    """Pictures of all cameras to tokens: a stem, learned places, and transformer blocks over each picture.

    The stem is one convolution a patch (Dosovitskiy et al. 2021) or several small ones (Xiao et al. 2021), which learn
    faster from little data. All cameras share the weights; each has its own places.

    Attributes:
        grids: Camera to (h', w'), its tokens.
        count: P, the tokens of all cameras.
    """

    def __init__(
        self, cameras: Sizes, width: int, patch: int, depth: int = 0, heads: int = 4, stem: str = CONVOLUTION_STEM
    ) -> None:
        """Build; `patch` pixels (each way) become one token.

        Raises:
            ContractError: when a picture is no whole number of patches, or the stem cannot make such patches.
        """
        super().__init__()
        for name, size in cameras.items():
            if any(side % patch or side < patch for side in size):
                raise ContractError(f"camera '{name}' is {size}, expected multiples of the patch, {patch}")
        self.grids = {name: (h // patch, w // patch) for name, (h, w) in cameras.items()}
        self.count = sum(h * w for h, w in self.grids.values())
        self.stem = _stem(stem, width, patch)
        self.positions = nn.ParameterDict({n: learned_positions(h * w, width) for n, (h, w) in self.grids.items()})
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Return (B, P, D) of images (B, 3, h, w), 0 to 1; camera after camera, row after row."""
        return torch.cat([self._see(images[name], self.positions[name]) for name in self.grids], dim=1)

    def _see(self, image: Tensor, positions: Tensor) -> Tensor:
        tokens = self.stem(2.0 * image - 1.0).flatten(2).transpose(1, 2) + positions
        for block in self.blocks:
            tokens, _ = block(tokens)
        return self.norm(tokens)

    def looks(self, weights: Tensor) -> dict[str, Tensor]:
        """Split weights (..., P) over the image tokens into (..., h', w') a camera, each summing to 1."""
        parts = weights.split([h * w for h, w in self.grids.values()], dim=-1)
        return {
            name: (part / part.sum(dim=-1, keepdim=True).clamp(min=1e-9)).unflatten(-1, grid)
            for (name, grid), part in zip(self.grids.items(), parts, strict=True)
        }


def _stem(kind: str, width: int, patch: int) -> nn.Module:
    if kind == PATCH_STEM:
        return nn.Conv2d(3, width, patch, stride=patch)
    if kind != CONVOLUTION_STEM:
        raise ContractError(f"stem '{kind}', expected '{PATCH_STEM}' or '{CONVOLUTION_STEM}'")
    halvings = int(math.log2(max(patch, 1))) - int(math.log2(FIRST_STRIDE))
    if halvings < 0 or patch != FIRST_STRIDE << halvings:
        raise ContractError(f"patch is {patch}; several convolutions need {FIRST_STRIDE} times a power of two")
    channels = [max(16, width >> (halvings - i)) for i in range(halvings)] + [width]
    layers: list[nn.Module] = [nn.Conv2d(3, channels[0], FIRST_STRIDE, stride=FIRST_STRIDE)]
    for before, after in pairwise(channels):
        layers += [nn.GELU(), nn.Conv2d(before, after, 3, stride=2, padding=1)]
    return nn.Sequential(*layers)


class TextEncoder(nn.Module):
    """Words to tokens that know of each other; padding is never looked at."""

    def __init__(self, vocabulary: int, width: int, words: int, depth: int = 1, heads: int = 4) -> None:
        """Build for sentences of at most `words` words."""
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.positions = learned_positions(words, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (M, T, D) of tokens (M, T), 0 where there is padding, and which are words, (M, T) bool."""
        real = tokens != 0
        features = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            features, _ = block(features, real[:, None, None, :])
        return self.norm(features) * real[..., None], real


class StateEncoder(nn.Module):
    """Rows of numbers, such as proprioception or past actions, to tokens: one a row.

    While training it may hide the numbers of a sequence behind a learned token. They are enough to recognise a recorded
    step by, and a network that does so never looks at the picture.
    """

    def __init__(self, inputs: int, width: int, rows: int = 1, hide: float = 0.0) -> None:
        """Build for at most `rows` rows of `inputs` numbers; `hide` is the share of sequences hidden while training."""
        super().__init__()
        if not 0.0 <= hide < 1.0:
            raise ContractError(f"the share of hidden states is {hide}, expected 0 or more, and less than 1")
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))
        self.positions = learned_positions(rows, width)
        self.hide = hide
        self.unknown = learned_positions(1, width) if hide > 0.0 else None

    def forward(self, rows: Tensor) -> Tensor:
        """Return (M, L, D) of rows (M, L, inputs)."""
        tokens = self.layers(rows)
        if self.training and self.unknown is not None:
            hidden = torch.rand(len(rows), 1, 1, device=rows.device) < self.hide
            tokens = torch.where(hidden, self.unknown, tokens)
        return tokens + self.positions[: rows.shape[1]]


def mean_over_words(values: Tensor, real: Tensor) -> Tensor:
    """Return (M, X), the mean of (M, T, X) over the words, which `real` (M, T) marks."""
    weights = real.to(values.dtype)
    return (values * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True).clamp(min=1.0)
