"""The unified architecture: one decoder-only transformer over image, text, state and action tokens.

No part of it belongs to one modality but the thin layers at the ends: image patches are projected as they are, words
are embedded, the state and the rows of the chunk are projected as the numbers that they are. The stream is
[image patches | state | words | start | row 0 | row 1 | ...], and the token before each row says that row.

While training, rows that the network reads are disturbed, and half of them are hidden behind one learned token: else it
would learn to continue what the expert did instead of looking (de Haan et al. 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.models.contract import ModelInput, ModelOutput, ModelTarget, VlaModel
from vla_ros.models.encoders import PATCH_STEM, ImageEncoder, Sizes, learned_positions, read_config
from vla_ros.models.losses import mean_where_present, side_losses
from vla_ros.models.stream import Prefix, SceneStream, StreamSizes

COLUMNS = 7


@dataclass(frozen=True)
class UnifiedConfig:
    """Sizes of the network.

    Attributes:
        cameras: Camera name to (height, width) of its images.
        vocabulary: How many words there are.
        state_width: Numbers of proprioception.
        horizon: Rows a chunk.
        words: Words a sentence may have.
        patch: Pixels of the image, each way, that become one token.
        stem: "patch" or "convolution", see `ImageEncoder`.
        width: Numbers a token has.
        heads: Of the transformer.
        depth: Its blocks.
        row_noise: Deviation of what is added to the rows it reads while training, normalised units.
        hidden_rows: Share of the rows that it cannot read while training.
        hidden_state: Share of the scenes whose state is hidden while training, see `StateEncoder`.
    """

    cameras: Sizes
    vocabulary: int
    state_width: int
    horizon: int
    words: int = 32
    patch: int = 16
    stem: str = PATCH_STEM
    width: int = 128
    heads: int = 4
    depth: int = 4
    row_noise: float = 0.1
    hidden_rows: float = 0.5
    hidden_state: float = 0.3


def tiny_config(cameras: Sizes, vocabulary: int, state_width: int, horizon: int) -> dict[str, Any]:
    """Return sizes that train a step in well under a second on one CPU core; images of multiples of 32 pixels."""
    return {
        "cameras": {name: list(size) for name, size in cameras.items()}, "vocabulary": vocabulary,
        "state_width": state_width, "horizon": horizon, "words": 16, "patch": 32, "stem": "convolution", "width": 64,
        "depth": 2,
    }  # fmt: skip


def full_config() -> dict[str, Any]:
    """Return the sizes of Gato (Reed et al. 2022), 24 blocks of 2048 numbers."""
    return {
        "cameras": {"front": [224, 224], "wrist": [224, 224]}, "vocabulary": 32000, "state_width": 10, "horizon": 16,
        "words": 64, "patch": 16, "width": 2048, "heads": 16, "depth": 24,
    }  # fmt: skip


class UnifiedModel(VlaModel):
    """See the module."""

    def __init__(self, config: UnifiedConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config = c = config
        self.stream = SceneStream(
            StreamSizes(c.cameras, c.vocabulary, c.state_width, c.words, c.width, c.heads, c.depth,
                        c.hidden_state),
            ImageEncoder(c.cameras, c.width, c.patch, stem=c.stem), c.width, c.vocabulary,
        )  # fmt: skip
        self.slots = learned_positions(c.horizon, c.width)
        self.start = learned_positions(1, c.width)
        self.hidden = learned_positions(1, c.width)
        self.read = nn.Linear(COLUMNS, c.width)
        self.say = nn.Sequential(nn.Linear(c.width, c.width), nn.GELU(), nn.Linear(c.width, COLUMNS))
        self.present = nn.Linear(c.width, 1)
        self.target = nn.Linear(c.width, 3)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> UnifiedModel:
        """Build from plain values, as they stand in a checkpoint."""
        return cls(read_config(UnifiedConfig, config))

    def act(self, given: ModelInput) -> ModelOutput:
        """Say row after row, each read before the next is said, for every sentence about every scene."""
        shape = given.tokens.shape[:2]
        prefix = self.stream.prefix(given)
        cache = self.stream.transformer.new_cache()
        tokens, real = prefix.followed_by(self._start(len(prefix.tokens)))
        features, weights = self.stream.transformer(tokens, real, cache, look=True)
        assert weights is not None
        start = features[:, -1]
        rows = [self.say(start)]
        for slot in range(1, self.config.horizon):
            real = functional.pad(real, (0, 1), value=True)
            token = self._read(_as_read(rows[-1])[:, None], slot)
            features, _ = self.stream.transformer(token, real, cache)
            rows.append(self.say(features[:, -1]))
        said = self._output(torch.stack(rows, dim=1), start, shape)
        return ModelOutput(
            said.positions, said.rotations, said.gripper, said.target, said.present,
            attention=self.stream.looks(weights, prefix.words, shape),
        )  # fmt: skip

    def word_attention(self, given: ModelInput) -> dict[str, Tensor]:
        """Return camera to (B, N, T, h', w'): where each word looks, summing to 1; words that are padding too."""
        prefix = self.stream.prefix(given)
        _, weights = self.stream.transformer(prefix.tokens, prefix.real, look=True)
        assert weights is not None
        return self.stream.word_looks(weights, prefix.words.shape[1], given.tokens.shape[:2])

    def compute_loss(self, given: ModelInput, wanted: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of every row given those before it, and of the other heads."""
        prefix = self.stream.prefix(given)
        features = self._teach(prefix, wanted.actions().flatten(0, 1))
        said = self._output(self.say(features), features[:, 0], given.tokens.shape[:2])
        gripper = functional.binary_cross_entropy_with_logits(said.gripper, wanted.gripper, reduction="none")
        positions = functional.smooth_l1_loss(said.positions, wanted.positions, reduction="none", beta=0.1)
        rotations = functional.smooth_l1_loss(said.rotations, wanted.rotations, reduction="none", beta=0.1)
        parts = {
            "position": mean_where_present(positions, wanted.present),
            "rotation": mean_where_present(rotations, wanted.present),
            "gripper": mean_where_present(gripper, wanted.present),
            **side_losses(said, wanted),
        }
        return torch.stack(list(parts.values())).sum(), {name: float(part.detach()) for name, part in parts.items()}

    def _teach(self, prefix: Prefix, actions: Tensor) -> Tensor:
        """Return the features (M, H, D) that say the rows, given the rows before; actions (M, H, 7)."""
        rows = actions[:, :-1]
        if self.training:
            rows = rows + self.config.row_noise * torch.randn_like(rows)
        read = self._read(rows, 1)
        if self.training:
            hide = torch.rand(*read.shape[:2], 1, device=read.device) < self.config.hidden_rows
            read = torch.where(hide, self.hidden + self.slots[1:], read)
        tokens, real = prefix.followed_by(torch.cat([self._start(len(rows)), read], dim=1))
        features, _ = self.stream.transformer(tokens, real)
        return features[:, prefix.tokens.shape[1] :]

    def _start(self, count: int) -> Tensor:
        return (self.start + self.slots[:1]).expand(count, 1, -1)

    def _read(self, rows: Tensor, first: int) -> Tensor:
        """Embed rows (M, X, 7), in front of the slots from `first` on."""
        return self.read(rows) + self.slots[first : first + rows.shape[1]]

    def _output(self, rows: Tensor, start: Tensor, shape: tuple[int, ...]) -> ModelOutput:
        """Return what rows (M, H, 7), whose last column is a logit, and the start token say."""
        rows = rows.unflatten(0, shape)
        return ModelOutput(
            rows[..., :3], rows[..., 3:6], rows[..., 6], self.target(start).unflatten(0, shape),
            self.present(start)[:, 0].unflatten(0, shape),
        )  # fmt: skip


def _as_read(row: Tensor) -> Tensor:
    """Return (M, 7) with the logit of the gripper made -1 or 1, as the rows it is taught with."""
    return torch.cat([row[:, :6], torch.where(row[:, 6:] > 0, 1.0, -1.0).to(row.dtype)], dim=-1)
