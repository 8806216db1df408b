"""The trunk inside a network: its encoder of pictures, and its encoder of words.

Each takes the place of a part that the network would build itself, and answers as that part does. A frozen trunk always
says the same of a picture, so that what it says can be computed once and stand in the picture's place, see
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
    """Say whether a line of a network's configuration is a trunk."""
    return values is not None and values.get("kind") == KIND


def trunk_sizes(values: Mapping[str, Any]) -> TrunkConfig:
    """Return the sizes in a line of a network's configuration.

    Raises:
        ContractError: when they make no trunk.
    """
    return TrunkConfig.from_dict({name: value for name, value in values.items() if name != "kind"})


class TrunkMaps(nn.Module):
    """The half that sees, as a feature map of each picture.

    A map may stand in the place of a picture: that is how what a frozen trunk says is computed once.

    Attributes:
        grids: Camera to (h', w'), the cells of its map.
        channels: C.
    """

    def __init__(self, cameras: Sizes, values: Mapping[str, Any]) -> None:
        """Build with random weights from {"kind": "trunk", sizes}.

        Raises:
            ContractError: when a picture is no whole number of patches.
        """
        super().__init__()
        self.grids = ImageTokens(cameras, 1, STRIDE).grids
        self.tower = TrunkVision(trunk_sizes(values))
        self.channels = self.tower.channels
        self.grounding_width = QUESTIONS * (self.channels + 3)

    def load_source(self, folder: Path, words: Sequence[str]) -> list[str]:
        """Take the weights of a saved trunk; returns what kept its random numbers."""
        del words
        load_weights(self.tower, folder, "vision.")
        return []

    def features(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the map (B, C, h', w') of each camera, see `map`."""
        return {name: self.map(images[name]) for name in self.grids}

    def map(self, image: Tensor) -> Tensor:
        """Return the map (B, C, h', w') of pictures (B, 3, h, w), 0 to 1, or of maps that were made before."""
        return image if image.shape[1] == self.channels else self.tower(image)

    def ground(self, features: Mapping[str, Tensor], questions: Tensor) -> dict[str, Grounding]:
        """Return where each camera's map answers questions (B, N, K, D)."""
        return {name: self.tower.ground(features[name], questions) for name in self.grids}


class TrunkImageEncoder(ImageTokens):
    """The half that sees, as tokens: the features of a patch, the patch in the space of the words, and its place."""

    def __init__(self, cameras: Sizes, values: Mapping[str, Any]) -> None:
        """Build with random weights from {"kind": "trunk", sizes}."""
        maps = TrunkMaps(cameras, values)
        super().__init__(cameras, maps.channels + trunk_sizes(values).width, STRIDE)
        self.maps = maps
        self.norm = nn.LayerNorm(maps.channels)
        self.positions = nn.ParameterDict({n: learned_positions(h * w, self.width) for n, (h, w) in self.grids.items()})

    def see(self, camera: str, image: Tensor) -> Tensor:
        """Return (B, h' * w', C + D) of one camera's image (B, 3, h, w), 0 to 1, or of its map."""
        features = self.maps.map(image)
        patches = self.maps.tower.patches(features).flatten(2).transpose(1, 2)
        seen = self.norm(features.flatten(2).transpose(1, 2))
        return torch.cat([seen, patches * patches.shape[-1] ** 0.5], dim=-1) + self.positions[camera]


def grounding_vector(found: Grounding) -> Tensor:
    """Return (M, K * (C + 3)): where each question is answered, how surely, and what is there."""
    return torch.cat([2.0 * found.places - 1.0, found.seen[..., None], found.features], dim=-1).flatten(1)


class TrunkTextEncoder(nn.Module):
    """The half that reads, over the words of the network's tokenizer.

    Attributes:
        width: Numbers a token: those of the word, and the sentence's questions.
    """

    ids: Tensor

    def __init__(self, vocabulary: int, words: int, values: Mapping[str, Any]) -> None:
        """Build with random weights from {"kind": "trunk", sizes}; until weights are loaded every word is unknown."""
        super().__init__()
        config = trunk_sizes(values)
        self.tower, self.longest = TrunkText(config), config.words
        self.width = (1 + QUESTIONS) * config.width
        ids = torch.full((vocabulary,), UNKNOWN)
        ids[0] = 0
        self.register_buffer("ids", ids)

    def load_source(self, folder: Path, words: Sequence[str]) -> list[str]:
        """Take the weights of a saved trunk, and find each of `words` among its own; returns those it does not know."""
        load_weights(self.tower, folder, "text.")
        theirs = {word: number for number, word in enumerate(describe_trunk(folder).words, 2)}
        self.ids[2 : 2 + len(words)] = torch.tensor([theirs.get(word, UNKNOWN) for word in words], dtype=torch.long)
        return [f"the word '{word}'" for word in words if word not in theirs]

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `TrunkText` returns of tokens (M, T) of the network's own vocabulary.

        Raises:
            InstructionError: when a sentence is longer than the trunk reads.
        """
        if tokens.shape[1] > self.longest:
            longest = int((tokens != 0).sum(dim=1).max())
            if longest > self.longest:
                raise InstructionError(f"a sentence has {longest} words, the trunk reads at most {self.longest}")
            tokens = tokens[:, : self.longest]
        return self.tower(self.ids[tokens])

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (M, T, 3 D) of tokens (M, T), 0 where there is padding, and which are words, (M, T) bool."""
        words, real, questions = self.read(tokens)
        told = questions.flatten(1)[:, None].expand(-1, words.shape[1], -1)
        features = torch.cat([words, told * words.shape[-1] ** 0.5], dim=-1) * real[..., None]
        missing = tokens.shape[1] - words.shape[1]
        return nn.functional.pad(features, (0, 0, 0, missing)), nn.functional.pad(real, (0, missing))
