"""Encoders of images and words that use the trunk inside a network.

Each replaces an encoder that the network would otherwise build itself, and has the same interface. A frozen trunk
always returns the same features for an image, so they can be computed once and passed in place of the image; see
`VlaModel.cached_shape`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.errors import InstructionError
from vla_ros.language.tokenizer import UNKNOWN
from vla_ros.models.configuration import Sizes
from vla_ros.models.layers.encoders import ImageTokens, learned_positions
from vla_ros.models.trunk import (
    KIND,
    QUESTIONS,
    STRIDE,
    Grounding,
    TrunkConfig,
    TrunkText,
    TrunkVision,
    describe_trunk,
    load_weights,
)


def is_trunk_line(values: Mapping[str, Any] | None) -> bool:
    """Return whether an entry of a network's configuration names a trunk."""
    return values is not None and values.get("kind") == KIND


def trunk_sizes(values: Mapping[str, Any]) -> TrunkConfig:
    """Return the sizes given by an entry of a network's configuration.

    Raises:
        ContractError: when they do not define a trunk.
    """
    return TrunkConfig.from_dict({name: value for name, value in values.items() if name != "kind"})


class TrunkMaps(nn.Module):
    """Vision half of the trunk as a feature map of each image.

    A map is accepted in place of an image: this way the features of a frozen trunk are computed only once.

    Attributes:
        grids: Size (h', w') of the map, by camera.
        channels: Channels of the map, C.
    """

    def __init__(self, cameras: Sizes, values: Mapping[str, Any]) -> None:
        """Build with random weights from {"kind": "trunk", sizes}.

        Raises:
            ContractError: when an image is not a whole number of patches.
        """
        super().__init__()
        self.grids = ImageTokens(cameras, 1, STRIDE).grids
        self.tower = TrunkVision(trunk_sizes(values))
        self.channels = self.tower.channels
        self.grounding_width = QUESTIONS * (self.channels + 3)

    def load_source(self, folder: Path, words: Sequence[str]) -> list[str]:
        """Load the weights of a saved trunk; return the parts left at random weights."""
        del words
        load_weights(self.tower, folder, "vision.")
        return []

    def features(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the map (B, C, h', w') of each camera; see `map`."""
        return {name: self.map(images[name]) for name in self.grids}

    def map(self, image: Tensor) -> Tensor:
        """Return the map (B, C, h', w') of images (B, 3, h, w), 0 to 1; maps computed before pass through."""
        return image if image.shape[1] == self.channels else self.tower(image)

    def ground(self, features: Mapping[str, Tensor], questions: Tensor) -> dict[str, Grounding]:
        """Locate the queries (B, N, K, D) in each camera's map."""
        return {name: self.tower.ground(features[name], questions) for name in self.grids}


class TrunkImageEncoder(ImageTokens):
    """Vision half as tokens: features of a patch, its vector in the shared space, and its position embedding."""

    def __init__(self, cameras: Sizes, values: Mapping[str, Any]) -> None:
        """Build with random weights from {"kind": "trunk", sizes}."""
        maps = TrunkMaps(cameras, values)
        super().__init__(cameras, maps.channels + trunk_sizes(values).width, STRIDE)
        self.maps = maps
        self.norm = nn.LayerNorm(maps.channels)
        self.positions = nn.ParameterDict({n: learned_positions(h * w, self.width) for n, (h, w) in self.grids.items()})

    def see(self, camera: str, image: Tensor) -> Tensor:
        """Return (B, h' * w', C + D) for one camera's image (B, 3, h, w), 0 to 1, or for its map."""
        features = self.maps.map(image)
        patches = self.maps.tower.patches(features).flatten(2).transpose(1, 2)
        seen = self.norm(features.flatten(2).transpose(1, 2))
        positions: Tensor = self.positions[camera]
        return torch.cat([seen, patches * patches.shape[-1] ** 0.5], dim=-1) + positions


def grounding_vector(found: Grounding) -> Tensor:
    """Return (M, K * (C + 3)): position, presence probability and features of each query's match."""
    return torch.cat([2.0 * found.places - 1.0, found.seen[..., None], found.features], dim=-1).flatten(1)


class TrunkTextEncoder(nn.Module):
    """Text half of the trunk, over the vocabulary of the network's tokenizer.

    Attributes:
        width: Features per token: those of the word, and the queries of the instruction.
    """

    ids: Tensor

    def __init__(self, vocabulary: int, words: int, values: Mapping[str, Any]) -> None:
        """Build with random weights from {"kind": "trunk", sizes}; every word is unknown until weights are loaded."""
        super().__init__()
        config = trunk_sizes(values)
        self.tower, self.longest = TrunkText(config), config.words
        self.width = (1 + QUESTIONS) * config.width
        ids = torch.full((vocabulary,), UNKNOWN)
        ids[0] = 0
        self.register_buffer("ids", ids)

    def load_source(self, folder: Path, words: Sequence[str]) -> list[str]:
        """Load a saved trunk's weights and map `words` to its vocabulary; return the words it does not know."""
        load_weights(self.tower, folder, "text.")
        theirs = {word: number for number, word in enumerate(describe_trunk(folder).words, 2)}
        self.ids[2 : 2 + len(words)] = torch.tensor([theirs.get(word, UNKNOWN) for word in words], dtype=torch.long)
        return [f"the word '{word}'" for word in words if word not in theirs]

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outputs of `TrunkText` for tokens (M, T) of the network's own vocabulary.

        Raises:
            InstructionError: when an instruction is longer than the trunk's limit.
        """
        if tokens.shape[1] > self.longest:
            longest = int((tokens != 0).sum(dim=1).max())
            if longest > self.longest:
                raise InstructionError(f"a sentence has {longest} words, the trunk reads at most {self.longest}")
            tokens = tokens[:, : self.longest]
        read: tuple[Tensor, Tensor, Tensor] = self.tower(self.ids[tokens])
        return read

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (M, T, 3 D) of tokens (M, T), 0 at padding, and the mask of the words, (M, T) bool."""
        words, real, questions = self.read(tokens)
        told = questions.flatten(1)[:, None].expand(-1, words.shape[1], -1)
        features = torch.cat([words, told * words.shape[-1] ** 0.5], dim=-1) * real[..., None]
        missing = tokens.shape[1] - words.shape[1]
        return nn.functional.pad(features, (0, 0, 0, missing)), nn.functional.pad(real, (0, missing))
