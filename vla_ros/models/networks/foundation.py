"""Foundation architecture: three encoders, cross-attention fusion, a transformer decoder, an action distribution.

Images, words and the arm's state (the result of its last action) each have an encoder and a projection. Words and state
then attend to the image in a few fusion blocks, which end in a layer norm. A decoder whose queries are one plan token
and the rows of the chunk attends to all of these tokens; each row attends only to the plan and the rows before it. The
decoder's features become a mixture of whole chunks (`ActionMixture`), to score, sample, or reduce to its most likely
plan.

Tokens in the decoder: 0 is the plan, h + 1 is row h. The plan token alone predicts the weights of the mixture, and the
presence and position of the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget
from vla_ros.models.contract import Backbone, VlaModel
from vla_ros.models.layers.attention import Block, causal_mask
from vla_ros.models.layers.encoders import StateEncoder, TextEncoder, learned_positions, mean_over_words, repeat_scenes
from vla_ros.models.layers.mixture import ActionMixture
from vla_ros.models.layers.published import IMAGE_KINDS, TEXT_KINDS, PublishedTextEncoder
from vla_ros.models.layers.scene import (
    TINY,
    SceneConfig,
    build_image_encoder,
    cached_shape,
    named_backbones,
    named_text_encoder,
)
from vla_ros.models.losses import mean_where_present, side_losses, total
from vla_ros.models.trunk import KIND
from vla_ros.models.trunk_encoders import TrunkTextEncoder

PLAN_SPREAD = 0.5
"""Initial magnitude of each column of the mixture's plans, with random sign, normalized units."""


@dataclass(frozen=True)
class FoundationConfig(SceneConfig):
    """Configuration of the network; `width` and `heads` apply after the projections.

    Attributes:
        text_width: Size of a word token before its projection.
        text_depth: Number of blocks of the text encoder.
        text_heads: Attention heads of the text encoder.
        text: Trunk or published text encoder in place of those three: {"kind": ..., sizes}, see
            `published.TEXT_KINDS`.
        fusion_depth: Number of blocks in which words and state attend to the image.
        policy_depth: Number of blocks of the decoder.
        plans: Number of components of the mixture.
        smallest_deviation: Minimum standard deviation of the mixture, normalized units; keeps the density finite.
    """

    image_depth: int = 2
    text_width: int = 128
    text_depth: int = 2
    text_heads: int = 4
    text: Mapping[str, Any] | None = None
    fusion_depth: int = 2
    policy_depth: int = 2
    plans: int = 3
    smallest_deviation: float = 0.1


@dataclass(frozen=True)
class _Memory:
    """Memory of the decoder: `tokens` (M, K, D), their mask `real` (M, K), and the words' attention to the image."""

    tokens: Tensor
    real: Tensor
    words: Tensor  # (M, T) bool
    looks: Tensor | None  # (M, T, P)


class FoundationModel(VlaModel):
    """Three encoders, fusion, decoder and action mixture; see the module."""

    Config = FoundationConfig
    TINY: ClassVar = {
        **TINY,
        "image_width": 64,
        "text_width": 48,
        "text_depth": 1,
        "fusion_depth": 1,
        "policy_depth": 1,
    }
    FULL: ClassVar = {  # ViT-B/16 for the image and BERT-base for the words: their sizes, not their weights
        "cameras": {"front": [224, 224], "wrist": [224, 224]},
        "vocabulary": 30522,
        "state_width": 10,
        "horizon": 16,
        "words": 64,
        "patch": 16,
        "stem": "patch",
        "image_width": 768,
        "image_depth": 12,
        "image_heads": 12,
        "text_width": 768,
        "text_depth": 12,
        "text_heads": 12,
        "width": 1024,
        "heads": 16,
        "fusion_depth": 6,
        "policy_depth": 6,
        "plans": 5,
    }
    BACKBONES: ClassVar = {"vision": (*IMAGE_KINDS, KIND), "text": (*TEXT_KINDS, KIND)}
    config: FoundationConfig

    def __init__(self, config: FoundationConfig) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        c = config
        self.images = build_image_encoder(c)
        self.text: TextEncoder | PublishedTextEncoder | TrunkTextEncoder = (
            TextEncoder(c.vocabulary, c.text_width, c.words, c.text_depth, c.text_heads)
            if c.text is None
            else named_text_encoder(c.vocabulary, c.words, c.text)
        )
        self.actions = StateEncoder(c.state_width, c.width, hide=c.hidden_state)
        self.image_projection = nn.Linear(self.images.width, c.width)
        self.text_projection = nn.Linear(self.text.width, c.width)
        self.fusion = nn.ModuleList(Block(c.width, c.heads, cross=True) for _ in range(c.fusion_depth))
        self.fusion_norm = nn.LayerNorm(c.width)
        self.queries = learned_positions(1 + c.horizon, c.width)
        self.policy = nn.ModuleList(Block(c.width, c.heads, cross=True) for _ in range(c.policy_depth))
        self.policy_norm = nn.LayerNorm(c.width)
        self.weights = nn.Linear(c.width, c.plans)
        self.rows = nn.Linear(c.width, c.plans * (2 * c.action.continuous + c.action.binary))
        self._spread_plans()
        self.present = nn.Linear(c.width, 1)
        self.target = nn.Linear(c.width, 3)

    def _spread_plans(self) -> None:
        """Initialize the plans apart from each other, and equally far from 0.

        Plans that start alike stay alike, and one that starts closer to the data than the others takes all of it.
        """
        with torch.no_grad():
            self.rows.weight.mul_(0.1)
            bias = self.rows.bias.view(self.config.plans, -1)
            bias.zero_()
            columns = self.config.action.continuous
            signs = torch.rand(self.config.plans, columns, device=bias.device) < 0.5
            bias[:, :columns] = torch.where(signs, PLAN_SPREAD, -PLAN_SPREAD)

    def predict(self, inputs: ModelInput) -> ModelOutput:
        """Predict the most likely plan for every instruction of every scene."""
        self.check(inputs)
        memory = self._encode(inputs, look=True)
        attention = {}
        if memory.looks is not None:
            looks = mean_over_words(memory.looks, memory.words)
            attention = self.images.looks(looks.unflatten(0, inputs.tokens.shape[:2]))
        features = self._decode(memory).unflatten(0, inputs.tokens.shape[:2])
        return replace(self._output(features, self._mixture(features)), attention=attention)

    def distribution(self, inputs: ModelInput) -> ActionMixture:
        """Return the distribution over chunks, with leading axes (B, N)."""
        self.check(inputs)
        return self._mixture(self._decode(self._encode(inputs)).unflatten(0, inputs.tokens.shape[:2]))

    def word_attention(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return camera to (B, N, T, h', w'): attention of each word, averaged over heads and fusion blocks."""
        self.check(inputs)
        memory = self._encode(inputs, look=True)
        if memory.looks is None:
            return {}
        return self.images.looks(memory.looks.unflatten(0, inputs.tokens.shape[:2]))

    def own_heads(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return the mixture: plan weights (B, N, K), means, standard deviations, probabilities of binary columns."""
        found = self.distribution(inputs)
        return {
            "plans": found.weights.softmax(dim=-1),
            "means": found.means,
            "stds": found.stds,
            "binary": found.binary.sigmoid(),
        }

    def backbones(self) -> dict[str, Backbone]:
        """Return the parts that accept published weights."""
        return named_backbones(self.images, self.text)

    def cached_shape(self, camera: str) -> tuple[int, int, int] | None:
        """Return the shape of the feature map that may replace a camera's image."""
        return cached_shape(self.config, self.images, camera)

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the negative log density per number of the expert's chunk, plus the losses of the other heads."""
        self.check(inputs, target)
        features = self._decode(self._encode(inputs)).unflatten(0, inputs.tokens.shape[:2])
        mixture = self._mixture(features)
        actions = target.actions()
        density = mixture.log_prob(actions) / (self.config.horizon * self.config.action.width)
        # The density above is divided by the numbers in a chunk, so that the choice of the plan has almost no weight in
        # it. This term has the same gradient with respect to the mixture weights, but without the division.
        choice = mixture.responsibilities(actions).detach() * mixture.weights.float().log_softmax(dim=-1)
        parts = {
            "actions": mean_where_present(-density, target.target_visible),
            "plan": 0.2 * mean_where_present(-choice.sum(dim=-1), target.target_visible),
        }
        parts |= side_losses(self._output(features, mixture), target)
        return total(parts)

    def _encode(self, inputs: ModelInput, look: bool = False) -> _Memory:
        """Encode and fuse."""
        sentences = inputs.tokens.shape[1]
        seen = repeat_scenes(self.image_projection(self.images(inputs.images)), sentences)
        words, real = self.text(inputs.tokens.flatten(0, 1))
        arm = repeat_scenes(self.actions(inputs.state[:, None]), sentences)
        fused = torch.cat([self.text_projection(words), arm], dim=1)
        real_fused = functional.pad(real, (0, 1), value=True)
        looks = []
        for block in self.fusion:
            fused, weights = block(fused, real_fused[:, None, None, :], context=seen, look=look)
            looks.append(weights)
        fused = self.fusion_norm(fused)
        return _Memory(
            tokens=torch.cat([fused, seen], dim=1),
            real=functional.pad(real_fused, (0, seen.shape[1]), value=True),
            words=real,
            looks=torch.stack(looks).mean(dim=0)[:, : real.shape[1]] if look and looks else None,
        )

    def _decode(self, memory: _Memory, rows: int | None = None) -> Tensor:
        """Return the features (M, 1 + rows, D) of the plan and the first `rows` rows (None: all)."""
        count = 1 + (self.config.horizon if rows is None else rows)
        tokens = self.queries[:count].expand(len(memory.tokens), -1, -1)
        mask = causal_mask(count, count, tokens.device)
        for block in self.policy:
            tokens, _ = block(tokens, mask, memory.tokens, memory.real[:, None, None, :])
        features: Tensor = self.policy_norm(tokens)
        return features

    def _mixture(self, features: Tensor) -> ActionMixture:
        """Return the distribution predicted from features (..., 1 + H, D)."""
        c = self.config
        columns = self.rows(features[..., 1:, :]).unflatten(-1, (c.plans, -1)).transpose(-3, -2)  # (..., K, H, 2 C + G)
        means, raw, binary = columns.split([c.action.continuous, c.action.continuous, c.action.binary], dim=-1)
        stds = functional.softplus(raw) + c.smallest_deviation
        return ActionMixture(self.weights(features[..., 0, :]), means, stds, binary)

    def _output(self, features: Tensor, mixture: ActionMixture) -> ModelOutput:
        means, binary = mixture.most_likely()
        plan = features[..., 0, :]
        return ModelOutput(means, binary, self.target(plan), self.present(plan)[..., 0])
