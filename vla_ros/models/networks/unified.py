"""Unified architecture: one decoder-only transformer over image, text, state and action tokens.

Only the thin input and output layers are specific to a modality: image patches, the state and the rows of the chunk are
projected linearly, words are embedded. The token stream is
[image patches | state | words | start | row 0 | row 1 | ...]; each row is predicted from the token before it.

During training, noise is added to the input rows, and half of them are replaced by one learned token; otherwise the
network would learn to continue the expert's actions instead of using the images (de Haan et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget
from vla_ros.models.columns import ActionColumns
from vla_ros.models.contract import Backbone, VlaModel
from vla_ros.models.layers.encoders import CONVOLUTION_STEM, PATCH_STEM, learned_positions
from vla_ros.models.layers.published import IMAGE_KINDS, LANGUAGE_KINDS
from vla_ros.models.layers.scene import TINY, cached_shape
from vla_ros.models.layers.stream import Prefix, SceneStream, StreamConfig
from vla_ros.models.losses import action_losses, side_losses, smooth_rotation, total
from vla_ros.models.trunk import KIND


@dataclass(frozen=True)
class UnifiedConfig(StreamConfig):
    """Sizes of the network, as in `StreamConfig`, and its training noise.

    Attributes:
        row_noise: Standard deviation of the noise added to the input rows during training, normalized units.
        hidden_rows: Fraction of the input rows that are masked during training.
    """

    stem: str = PATCH_STEM
    image_width: int = 0
    image_depth: int = 0
    row_noise: float = 0.1
    hidden_rows: float = 0.5


class UnifiedModel(VlaModel):
    """Autoregressive network over one token stream; the module docstring describes it."""

    Config = UnifiedConfig
    TINY: ClassVar = {**TINY, "stem": CONVOLUTION_STEM, "depth": 2}
    FULL: ClassVar = {  # the sizes of Gato (Reed et al. 2022), 24 blocks of width 2048
        "cameras": {"front": [224, 224], "wrist": [224, 224]},
        "vocabulary": 32000,
        "state_width": 10,
        "horizon": 16,
        "words": 64,
        "patch": 16,
        "width": 2048,
        "heads": 16,
        "depth": 24,
    }
    BACKBONES: ClassVar = {"vision": (*IMAGE_KINDS, KIND), "language": LANGUAGE_KINDS, "text": (KIND,)}
    config: UnifiedConfig

    def __init__(self, config: UnifiedConfig) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        self.stream = SceneStream(config, config.vocabulary)
        width = self.stream.width
        self.slots = learned_positions(config.horizon, width)
        self.start = learned_positions(1, width)
        self.hidden = learned_positions(1, width)
        columns = config.action.width
        self.read = nn.Linear(columns, width)
        self.say = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, columns))
        self.present = nn.Linear(width, 1)
        self.target = nn.Linear(width, 3)

    def predict(self, inputs: ModelInput) -> ModelOutput:
        """Predict row after row, each fed back before the next, for every instruction about every scene."""
        self.check(inputs)
        shape = inputs.tokens.shape[:2]
        prefix = self.stream.prefix(inputs)
        cache = self.stream.transformer.new_cache()
        tokens, real = prefix.followed_by(self._start(len(prefix.tokens)))
        features, weights = self.stream.transformer(tokens, real, cache, look=True)
        assert weights is not None
        start = features[:, -1]
        rows = [self.say(start)]
        for slot in range(1, self.config.horizon):
            real = functional.pad(real, (0, 1), value=True)
            token = self._embed_rows(_round_binary(rows[-1], self.config.action)[:, None], slot)
            features, _ = self.stream.transformer(token, real, cache)
            rows.append(self.say(features[:, -1]))
        output = self._output(torch.stack(rows, dim=1), start, shape)
        return replace(output, attention=self.stream.looks(weights, prefix.words, shape))

    def word_attention(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return (B, N, T, h', w') by camera: attention of each word, averaged over heads and blocks."""
        self.check(inputs)
        return self.stream.word_looks(inputs)

    def backbones(self) -> dict[str, Backbone]:
        """Return the parts that accept published weights."""
        return self.stream.backbones()

    def cached_shape(self, camera: str) -> tuple[int, int, int] | None:
        """Return the shape of the features accepted in place of a camera's image; see `VlaModel.cached_shape`."""
        return cached_shape(self.config, self.stream.images, camera)

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of every row given the rows before it, plus the losses of the other heads."""
        self.check(inputs, target)
        prefix = self.stream.prefix(inputs)
        features = self._teacher_forcing(prefix, target.actions().flatten(0, 1))
        output = self._output(self.say(features), features[:, 0], inputs.tokens.shape[:2])
        parts = action_losses(output, target, self.config.action, smooth_rotation)
        return total({**parts, **side_losses(output, target)})

    def _teacher_forcing(self, prefix: Prefix, actions: Tensor) -> Tensor:
        """Return the features (M, H, D) that predict each row from the rows before it; actions (M, H, A)."""
        rows = actions[:, :-1]
        if self.training:
            rows = rows + self.config.row_noise * torch.randn_like(rows)
        read = self._embed_rows(rows, 1)
        if self.training:
            hide = torch.rand(*read.shape[:2], 1, device=read.device) < self.config.hidden_rows
            read = torch.where(hide, self.hidden + self.slots[1:], read)
        tokens, real = prefix.followed_by(torch.cat([self._start(len(rows)), read], dim=1))
        features: Tensor = self.stream.transformer(tokens, real)[0]
        return features[:, prefix.tokens.shape[1] :]

    def _start(self, count: int) -> Tensor:
        return (self.start + self.slots[:1]).expand(count, 1, -1)

    def _embed_rows(self, rows: Tensor, first: int) -> Tensor:
        """Embed rows (M, X, A) with the position embeddings of the slots from `first` on."""
        read: Tensor = self.read(rows)
        return read + self.slots[first : first + rows.shape[1]]

    def _output(self, rows: Tensor, start: Tensor, shape: tuple[int, ...]) -> ModelOutput:
        """Return the output of rows (M, H, A), whose binary columns are logits, and of the start token."""
        continuous, binary = rows.unflatten(0, shape).tensor_split([self.config.action.continuous], dim=-1)
        return ModelOutput(
            continuous,
            binary,
            self.target(start).unflatten(0, shape),
            self.present(start)[:, 0].unflatten(0, shape),
        )


def _round_binary(row: Tensor, columns: ActionColumns) -> Tensor:
    """Return (M, A) with the logits rounded to -1 or 1, like the rows seen in training."""
    continuous, binary = row.tensor_split([columns.continuous], dim=-1)
    return torch.cat([continuous, torch.where(binary > 0, 1.0, -1.0).to(row.dtype)], dim=-1)
