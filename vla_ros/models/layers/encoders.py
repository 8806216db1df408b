"""Encoders shared by the networks: each turns one modality into tokens.

Shapes: B scenes, N instructions per scene, M = B * N sequences, P image tokens of all cameras, T words, D channels per
token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from vla_ros.errors import ContractError
from vla_ros.models.configuration import Sizes
from vla_ros.models.layers.attention import Block

PATCH_STEM, CONVOLUTION_STEM = "patch", "convolution"
FIRST_STRIDE = 4
"""Stride of the first convolution of a convolutional stem."""


def repeat_scenes(features: Tensor, sentences: int) -> Tensor:
    """Repeat each scene for each of its instructions: (B, ...) to (B * N, ...)."""
    return features.repeat_interleave(sentences, dim=0)


def sinusoidal(positions: Tensor, width: int) -> Tensor:
    """Return (..., width): sines, then cosines, of `positions` (...) at frequencies from 1 to 1/10000.

    The embedding of Vaswani et al. (2017), for sequence positions and diffusion steps alike.
    """
    if width % 2:
        raise ContractError(f"a sinusoidal embedding needs an even width, got {width}")
    steps = torch.arange(width // 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * torch.exp(-math.log(10000.0) * steps / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def learned_positions(length: int, width: int) -> nn.Parameter:
    """Return (length, width) parameters, initialized to small random values."""
    return nn.Parameter(0.02 * torch.randn(length, width))


class ImageTokens(nn.Module):
    """Base class of image encoders: tokens (B, P, D), ordered by camera, then row by row.

    Attributes:
        grids: Camera to its token grid (h', w').
        count: P, the number of tokens of all cameras.
        width: D, channels per token.
    """

    def __init__(self, cameras: Sizes, width: int, patch: int) -> None:
        """Divide each image into square patches of `patch` pixels a side.

        Raises:
            ContractError: when an image size is not a multiple of the patch size.
        """
        super().__init__()
        for name, size in cameras.items():
            if any(side % patch or side < patch for side in size):
                raise ContractError(f"camera '{name}' is {size}, expected multiples of the patch, {patch}")
        self.grids = {name: (h // patch, w // patch) for name, (h, w) in cameras.items()}
        self.count = sum(h * w for h, w in self.grids.values())
        self.width = width

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Encode images (B, 3, h, w), 0 to 1, as (B, P, D)."""
        return torch.cat([self.see(name, images[name]) for name in self.grids], dim=1)

    def see(self, camera: str, image: Tensor) -> Tensor:
        """Encode one camera's images (B, 3, h, w), 0 to 1, as (B, h' * w', D)."""
        raise NotImplementedError

    def looks(self, weights: Tensor) -> dict[str, Tensor]:
        """Split weights (..., P) over the image tokens into (..., h', w') per camera, each summing to 1."""
        parts = weights.split([h * w for h, w in self.grids.values()], dim=-1)
        return {
            name: (part / part.sum(dim=-1, keepdim=True).clamp(min=1e-9)).unflatten(-1, grid)
            for (name, grid), part in zip(self.grids.items(), parts, strict=True)
        }


class ImageEncoder(ImageTokens):
    """Vision transformer over each camera's image: a stem, learned positions, and transformer blocks.

    The stem is one convolution per patch (Dosovitskiy et al. 2021) or several small ones (Xiao et al. 2021), which
    learn faster from little data. All cameras share the weights; each has its own positions.
    """

    def __init__(
        self, cameras: Sizes, width: int, patch: int, depth: int = 0, heads: int = 4, stem: str = CONVOLUTION_STEM
    ) -> None:
        """Build; one token covers `patch` pixels a side.

        Raises:
            ContractError: when an image size is not a multiple of the patch, or the stem does not support the patch.
        """
        super().__init__(cameras, width, patch)
        self.stem = _stem(stem, width, patch)
        self.positions = nn.ParameterDict({n: learned_positions(h * w, width) for n, (h, w) in self.grids.items()})
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def see(self, camera: str, image: Tensor) -> Tensor:
        """Encode one camera's images (B, 3, h, w), 0 to 1, as (B, h' * w', D)."""
        tokens = self.stem(2.0 * image - 1.0).flatten(2).transpose(1, 2) + self.positions[camera]
        for block in self.blocks:
            tokens, _ = block(tokens)
        features: Tensor = self.norm(tokens)
        return features


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
    """Transformer over the words of an instruction; padding is masked.

    Attributes:
        width: Channels per token.
    """

    def __init__(self, vocabulary: int, width: int, words: int, depth: int = 1, heads: int = 4) -> None:
        """Build for instructions of at most `words` words."""
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.positions = learned_positions(words, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (M, T, D) of tokens (M, T), 0 at padding, and the word mask, (M, T) bool."""
        real = tokens != 0
        features = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            features, _ = block(features, real[:, None, None, :])
        return self.norm(features) * real[..., None], real


class StateEncoder(nn.Module):
    """Encodes rows of numbers, such as proprioception or past actions, as tokens, one per row.

    During training it may replace a sequence's tokens by a learned mask token: the numbers alone suffice to recognize
    a recorded step, and a network that relies on them ignores the image.
    """

    def __init__(self, inputs: int, width: int, rows: int = 1, hide: float = 0.0) -> None:
        """Build for at most `rows` rows of `inputs` numbers; `hide` is the fraction of sequences masked in training."""
        super().__init__()
        if not 0.0 <= hide < 1.0:
            raise ContractError(f"the fraction of hidden states is {hide}, expected 0 or more, and less than 1")
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))
        self.positions = learned_positions(rows, width)
        self.hide = hide
        self.unknown = learned_positions(1, width) if hide > 0.0 else None

    def forward(self, rows: Tensor) -> Tensor:
        """Encode rows (M, L, inputs) as (M, L, D)."""
        tokens: Tensor = self.layers(rows)
        if self.training and self.unknown is not None:
            hidden = torch.rand(len(rows), 1, 1, device=rows.device) < self.hide
            tokens = torch.where(hidden, self.unknown, tokens)
        return tokens + self.positions[: rows.shape[1]]


def mean_over_words(values: Tensor, real: Tensor) -> Tensor:
    """Average (M, T, X) over the words marked by `real` (M, T); return (M, X)."""
    weights = real.to(values.dtype)
    return (values * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True).clamp(min=1.0)
