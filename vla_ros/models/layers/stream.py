"""Token stream of a scene: all image tokens, the arm's state, the words, padding; actions follow.

Each modality has its own positions (image patches, words, action slots), so that the amount of padding has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.models.batch import ModelInput
from vla_ros.models.contract import Backbone
from vla_ros.models.layers.attention import CausalTransformer
from vla_ros.models.layers.encoders import StateEncoder, learned_positions, mean_over_words, repeat_scenes
from vla_ros.models.layers.published import PublishedTransformer
from vla_ros.models.layers.scene import SceneConfig, build_image_encoder, named_backbones, named_text_encoder


@dataclass(frozen=True)
class StreamConfig(SceneConfig):
    """Configuration of a network that reads all modalities as one stream.

    Attributes:
        depth: Number of blocks of the transformer.
        language: Published language model in place of `width`, `heads` and `depth`: {"kind": ..., sizes}, see
            `published.LANGUAGE_KINDS`.
        text: Trunk whose encoding of the instruction is added to the words, {"kind": "trunk", sizes}.
    """

    depth: int = 4
    language: Mapping[str, Any] | None = None
    text: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Prefix:
    """Stream before the actions: tokens (M, L, D), their mask `real` (M, L), and the ids of the words (M, T)."""

    tokens: Tensor
    real: Tensor
    words: Tensor

    def followed_by(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens and the mask with `tokens` (M, X, D) appended."""
        ones = self.real.new_ones(len(tokens), tokens.shape[1])
        return torch.cat([self.tokens, tokens], dim=1), torch.cat([self.real, ones], dim=1)


class SceneStream(nn.Module):
    """Encoder of the prefix, and the causal transformer that reads it.

    Attributes:
        words_at: Index of the first word, the same for every input.
        width: Size of a token.
    """

    def __init__(self, config: StreamConfig, ids: int) -> None:
        """Build; `ids` is the size of the embedding: the vocabulary, and the ids that a network appends to it."""
        super().__init__()
        c = config
        self.images = build_image_encoder(c)
        self.transformer: CausalTransformer | PublishedTransformer = (
            CausalTransformer(c.width, c.heads, c.depth) if c.language is None else PublishedTransformer(c.language)
        )
        self.width = width = self.transformer.width
        same = self.images.width == width
        self.image_projection = nn.Identity() if same else nn.Linear(self.images.width, width)
        self.state = StateEncoder(c.state_width, width, hide=c.hidden_state)
        self.embedding = nn.Embedding(ids, width)
        self.text = None if c.text is None else named_text_encoder(c.vocabulary, c.words, c.text)
        self.text_projection = None if self.text is None else nn.Linear(self.text.width, width)
        self.word_positions = learned_positions(c.words, width)
        self.words_at = self.images.count + 1

    def prefix(self, inputs: ModelInput) -> Prefix:
        """Encode a checked input as M = B * N sequences."""
        sentences = inputs.tokens.shape[1]
        words = inputs.tokens.flatten(0, 1)
        scene = torch.cat([self.image_projection(self.images(inputs.images)), self.state(inputs.state[:, None])], dim=1)
        output = self.embedding(words) + self.word_positions[: words.shape[1]]
        if self.text is not None and self.text_projection is not None:
            output = output + self.text_projection(self.text(words)[0])
        tokens = torch.cat([repeat_scenes(scene, sentences), output], dim=1)
        before = torch.ones(len(words), self.words_at, dtype=torch.bool, device=words.device)
        return Prefix(tokens, torch.cat([before, words != 0], dim=1), words)

    def backbones(self) -> dict[str, Backbone]:
        """Return the parts that accept published weights, as `VlaModel.backbones` does."""
        parts = named_backbones(self.images, self.text)
        if isinstance(self.transformer, PublishedTransformer):
            parts["language"] = self.transformer.backbone(self.embedding)
        return parts

    def word_looks(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return camera to (B, N, T, h', w'): attention of each word, summing to 1, including padding."""
        prefix = self.prefix(inputs)
        _, weights = self.transformer(prefix.tokens, prefix.real, look=True)
        assert weights is not None
        part = weights[:, self.words_at : self.words_at + prefix.words.shape[1], : self.images.count]
        return self.images.looks(part.unflatten(0, inputs.tokens.shape[:2]))

    def looks(self, weights: Tensor, words: Tensor, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Return camera to (B, N, h', w'): mean attention of the words (M, T) that are not padding."""
        part = weights[:, self.words_at : self.words_at + words.shape[1], : self.images.count]
        return self.images.looks(mean_over_words(part, words != 0).unflatten(0, shape))
