"""RT-2 (Brohan et al. 2023): vision, language and actions are tokens of one stream, and one head predicts them all.

The stream is [image patches | state | words | begin | actions], read by one causal transformer. An action is a row of
numbers (seven for a tool: position, rotation, gripper), each quantized into 256 bins, and the bins are the last 256 ids
of the vocabulary. Training scores the whole vocabulary, on the words of the instruction (co-training) and on the
actions. Decoding uses the last 256 logits only, so that it can produce nothing but valid actions, and caches keys and
values, so that each step processes a single token.

ids: 0 padding, 1 unknown, 2 ... words, `vocabulary` begin, `vocabulary` + 1 + bin an action.

The chunk is predicted as `predicted_rows` rows, evenly spaced from its first to its last; those between are
interpolated (continuous columns linearly, binary ones from the nearest). 0 predicts every row, one token per column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.actions.binning import ActionBins
from vla_ros.errors import ContractError
from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget
from vla_ros.models.contract import Backbone, VlaModel
from vla_ros.models.layers.encoders import learned_positions
from vla_ros.models.layers.published import IMAGE_KINDS, LANGUAGE_KINDS
from vla_ros.models.layers.scene import TINY, cached_shape
from vla_ros.models.layers.stream import Prefix, SceneStream, StreamConfig
from vla_ros.models.losses import mean_where_present, side_losses, total
from vla_ros.models.trunk import KIND


@dataclass(frozen=True)
class Rt2Config(StreamConfig):
    """Configuration of the network: that of `StreamConfig`, and the action tokens.

    Attributes:
        bins: Number of bins per column.
        bound: Bound of the bins of continuous columns, plus and minus, normalized; that of binary ones is 1.
        predicted_rows: Number of predicted rows, see the module; 0, or more than the horizon, for all.
        language_weight: Weight of the loss on the words.
    """

    bins: int = 256
    bound: float = 4.0
    predicted_rows: int = 4
    language_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.predicted_rows != 0 and self.predicted_rows < 2:
            raise ContractError(f"predicted_rows is {self.predicted_rows}, expected 0 (all) or at least 2")
        if not self.bound > 0.0 or self.bins < 2:
            raise ContractError(f"bound is {self.bound} and bins {self.bins}, expected more than 0 and at least 2")


class Rt2Model(VlaModel):
    """Token stream with quantized actions; see the module.

    Attributes:
        begin: Id of the token that ends the instruction and begins the actions.
        first_action: Id of bin 0.
        bins: Bins of the columns.
        rows: Indices of the predicted rows of the chunk.
    """

    Config = Rt2Config
    TINY: ClassVar = {**TINY, "image_width": 64, "depth": 2, "predicted_rows": 3}
    FULL: ClassVar = {  # ViT-L/14 under a language model with the sizes of Llama 2 7B, as OpenVLA (Kim et al. 2024) has
        "cameras": {"front": [224, 224]},
        "vocabulary": 32000,
        "state_width": 10,
        "horizon": 16,
        "words": 64,
        "patch": 14,
        "stem": "patch",
        "image_width": 1024,
        "image_depth": 24,
        "image_heads": 16,
        "width": 4096,
        "heads": 32,
        "depth": 32,
        "predicted_rows": 4,
    }
    BACKBONES: ClassVar = {"vision": (*IMAGE_KINDS, KIND), "language": LANGUAGE_KINDS, "text": (KIND,)}
    config: Rt2Config

    def __init__(self, config: Rt2Config) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        c = config
        self.begin, self.first_action = c.vocabulary, c.vocabulary + 1
        ids = self.first_action + c.bins
        self.stream = SceneStream(c, ids)
        width = self.stream.width
        predicted = min(c.predicted_rows or c.horizon, c.horizon)
        self.rows = [round(i * (c.horizon - 1) / max(1, predicted - 1)) for i in range(predicted)]
        self.columns = c.action.width
        self.count = predicted * self.columns
        self.slots = learned_positions(self.count, width)
        self.head = nn.Linear(width, ids, bias=False)
        self.present = nn.Linear(width, 1)
        self.target = nn.Linear(width, 3)
        bound = np.array([c.bound] * c.action.continuous + [1.0] * c.action.binary)
        self.bins = ActionBins(-bound, bound, c.bins)  # no buffer: bf16 would move its edges
        self.row_weights = _interpolation(self.rows, c.horizon)

    def predict(self, inputs: ModelInput) -> ModelOutput:
        """Predict a chunk for every instruction of every scene, by greedy decoding."""
        self.check(inputs)
        shape = inputs.tokens.shape[:2]
        prefix = self.stream.prefix(inputs)
        tokens, logits, begin, weights = self._decode(prefix)
        return ModelOutput(
            **self._columns(tokens.unflatten(0, shape), logits.unflatten(0, shape)),
            target=self.target(begin).unflatten(0, shape),
            target_visible=self.present(begin)[:, 0].unflatten(0, shape),
            attention=self.stream.looks(weights, prefix.words, shape),
        )

    def decode_tokens(
        self, inputs: ModelInput, temperature: float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return action tokens (B, N, rows, columns), ids of the vocabulary; sampled at a `temperature` above 0."""
        self.check(inputs)
        flat = self._decode(self.stream.prefix(inputs), temperature, generator)[0]
        tokens: Tensor = flat.unflatten(0, inputs.tokens.shape[:2]).unflatten(-1, (-1, self.columns))
        return tokens

    def language_logits(self, inputs: ModelInput) -> Tensor:
        """Return next-token logits (B, N, T + 1, ids) before each word and after the last."""
        self.check(inputs)
        prefix = self.stream.prefix(inputs)
        tokens, real = prefix.followed_by(self._embed_begin(len(prefix.tokens)))
        features, _ = self.stream.transformer(tokens, real)
        logits: Tensor = self.head(self._before_words(features)).unflatten(0, inputs.tokens.shape[:2])
        return logits

    def word_attention(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return camera to (B, N, T, h', w'): attention of each word, averaged over heads and blocks."""
        self.check(inputs)
        return self.stream.word_looks(inputs)

    def own_heads(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return the action tokens, the probabilities of their bins, and those of the next word at each position."""
        self.check(inputs)
        tokens, logits, _, _ = self._decode(self.stream.prefix(inputs))
        shape = inputs.tokens.shape[:2]
        return {
            "tokens": tokens.unflatten(0, shape).unflatten(-1, (-1, self.columns)),
            "bins": logits.softmax(dim=-1).unflatten(0, shape).unflatten(2, (-1, self.columns)),
            "language": self.language_logits(inputs).softmax(dim=-1),
        }

    def backbones(self) -> dict[str, Backbone]:
        """Return the parts that accept published weights."""
        return self.stream.backbones()

    def cached_shape(self, camera: str) -> tuple[int, int, int] | None:
        """Return the shape of the feature map that may replace a camera's image."""
        return cached_shape(self.config, self.stream.images, camera)

    def tokenize(self, target: ModelTarget) -> Tensor:
        """Return the action tokens (B, N, rows, columns) of a target."""
        values = target.actions()[:, :, self.rows].float()
        edges = torch.tensor(self.bins.edges, dtype=torch.float32, device=values.device)
        bins = [torch.bucketize(values[..., i].contiguous(), edges[i], right=True) for i in range(self.columns)]
        return torch.stack(bins, dim=-1) + self.first_action

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the cross entropy of the expert's action tokens and of the words, over the whole vocabulary."""
        self.check(inputs, target)
        shape = inputs.tokens.shape[:2]
        prefix = self.stream.prefix(inputs)
        actions = self.tokenize(target).flatten(2)  # (B, N, count)
        features, first = self._teacher_forcing(prefix, actions.flatten(0, 1))
        logits = self.head(features[:, first:]).float()
        taught = functional.cross_entropy(logits.flatten(0, 1), actions.flatten(), reduction="none")
        begin = features[:, first]
        output = ModelOutput(
            target.continuous,
            target.binary,
            target=self.target(begin).unflatten(0, shape),
            target_visible=self.present(begin)[:, 0].unflatten(0, shape),
        )
        parts = {
            "actions": mean_where_present(taught.view_as(actions), target.target_visible),
            "language": self.config.language_weight * self._language_loss(features, prefix.words),
            **side_losses(output, target),
        }
        return total(parts)

    def _teacher_forcing(self, prefix: Prefix, actions: Tensor) -> tuple[Tensor, int]:
        """Return features (M, L, D) of the stream with action tokens (M, count), and the index predicting the first."""
        told = torch.cat([self._embed_begin(len(actions)), self._embed_actions(actions[:, :-1], 0)], dim=1)
        tokens, real = prefix.followed_by(told)
        features, _ = self.stream.transformer(tokens, real)
        return features, prefix.tokens.shape[1]

    def _language_loss(self, features: Tensor, words: Tensor) -> Tensor:
        """Return the cross entropy of each next word, and of `begin` after the last."""
        logits = self.head(self._before_words(features, words.shape[1])).float()
        target = functional.pad(words, (0, 1)).scatter(1, (words != 0).sum(dim=1, keepdim=True), self.begin)
        return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0)

    def _before_words(self, features: Tensor, words: int | None = None) -> Tensor:
        """Return the features before each of T words and after the last, (M, T + 1, D)."""
        start = self.stream.words_at - 1
        return features[:, start : (-1 if words is None else start + words + 1)]

    def _decode(
        self, prefix: Prefix, temperature: float = 0.0, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return tokens (M, count), bin logits (M, count, bins), the feature of `begin`, and the attention."""
        cache = self.stream.transformer.new_cache()
        tokens, real = prefix.followed_by(self._embed_begin(len(prefix.tokens)))
        features, weights = self.stream.transformer(tokens, real, cache, look=True)
        assert weights is not None
        begin = features[:, -1]
        output: list[Tensor] = []
        scores: list[Tensor] = []
        for slot in range(self.count):
            scores.append(self._constrain(features[:, -1]))
            output.append(self.first_action + _choose(scores[-1], temperature, generator))
            if slot + 1 < self.count:
                real = functional.pad(real, (0, 1), value=True)
                features, _ = self.stream.transformer(self._embed_actions(output[-1][:, None], slot), real, cache)
        return torch.stack(output, dim=1), torch.stack(scores, dim=1), begin, weights

    def _constrain(self, feature: Tensor) -> Tensor:
        """Return the logits (M, bins) of the action tokens only, so that no other id can be chosen."""
        return functional.linear(feature, self.head.weight[self.first_action :])

    def _embed_begin(self, count: int) -> Tensor:
        return self.stream.embedding.weight[self.begin].expand(count, 1, -1)

    def _embed_actions(self, tokens: Tensor, first: int) -> Tensor:
        """Embed action tokens (M, X) in the slots from `first` on."""
        embedded: Tensor = self.stream.embedding(tokens)
        return embedded + self.slots[first : first + tokens.shape[1]]

    def _columns(self, tokens: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Return the columns of tokens (B, N, count) and their logits (B, N, count, bins).

        The logit of a binary column is the log odds of the upper half of its bins against the lower.
        """
        bins = (tokens - self.first_action).unflatten(-1, (-1, self.columns))
        centres = torch.tensor(self.bins.centres, dtype=torch.float32, device=bins.device)
        first = self.config.action.continuous
        values = torch.stack([centres[i][bins[..., i]] for i in range(first)], dim=-1)
        log_probs = logits.unflatten(-2, (-1, self.columns))[..., first:, :].float().log_softmax(dim=-1)
        half = self.config.bins // 2
        on = (log_probs[..., half:].logsumexp(dim=-1) - log_probs[..., :half].logsumexp(dim=-1)).to(logits.dtype)
        weights = torch.tensor(self.row_weights, dtype=torch.float32, device=bins.device)
        between = weights @ values  # (H, rows) @ (B, N, rows, C)
        return {
            "continuous": between.to(logits.dtype),
            "binary": on[..., weights.argmax(dim=-1), :],
        }


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature <= 0.0:
        return logits.argmax(dim=-1)
    return torch.multinomial((logits.float() / temperature).softmax(dim=-1), 1, generator=generator)[:, 0]


def _interpolation(rows: list[int], horizon: int) -> np.ndarray:
    """Return the weights (horizon, rows) of linear interpolation from predicted rows to rows of the chunk."""
    return np.stack([np.interp(np.arange(horizon), rows, unit) for unit in np.eye(len(rows))], axis=1)
