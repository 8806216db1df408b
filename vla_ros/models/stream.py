"""One stream of tokens: all image tokens, the arm's state, the words, padding. Actions follow it.

Every kind has places of its own (image patches, words, slots of actions), so that more padding changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_ros.models.attention import CausalTransformer
from vla_ros.models.contract import ModelInput
from vla_ros.models.encoders import (
    ImageEncoder,
    Sizes,
    StateEncoder,
    check_input,
    learned_positions,
    mean_over_words,
    repeat_scenes,
)


@dataclass(frozen=True)
class StreamSizes:
    """What the stream is built from; the meaning is that of the network's configuration."""

    cameras: Sizes
    vocabulary: int
    state_width: int
    words: int
    width: int
    heads: int
    depth: int
    hidden_state: float


@dataclass(frozen=True)
class Prefix:
    """Tokens (M, L, D), which are `real` (M, L), and the ids of the words (M, T)."""

    tokens: Tensor
    real: Tensor
    words: Tensor

    def followed_by(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens and the mask with `tokens` (M, X, D) behind."""
        ones = self.real.new_ones(len(tokens), tokens.shape[1])
        return torch.cat([self.tokens, tokens], dim=1), torch.cat([self.real, ones], dim=1)


class SceneStream(nn.Module):
    """Makes the prefix and holds the causal transformer that reads it.

    Attributes:
        words_at: Where the words begin, the same for every input.
    """

    def __init__(self, sizes: StreamSizes, images: ImageEncoder, image_width: int, ids: int) -> None:
        """Build; `ids` is the size of the table of embeddings, the vocabulary and what a network reserves behind it."""
        super().__init__()
        self.sizes = sizes
        self.images = images
        same = image_width == sizes.width
        self.image_projection = nn.Identity() if same else nn.Linear(image_width, sizes.width)
        self.state = StateEncoder(sizes.state_width, sizes.width, hide=sizes.hidden_state)
        self.embedding = nn.Embedding(ids, sizes.width)
        self.word_positions = learned_positions(sizes.words, sizes.width)
        self.transformer = CausalTransformer(sizes.width, sizes.heads, sizes.depth)
        self.words_at = images.count + 1

    def prefix(self, given: ModelInput) -> Prefix:
        """Check and encode; M = B * N sequences."""
        s = self.sizes
        check_input(given, s.cameras, s.vocabulary, s.state_width, s.words)
        sentences = given.tokens.shape[1]
        words = given.tokens.flatten(0, 1)
        scene = torch.cat([self.image_projection(self.images(given.images)), self.state(given.state[:, None])], dim=1)
        said = self.embedding(words) + self.word_positions[: words.shape[1]]
        tokens = torch.cat([repeat_scenes(scene, sentences), said], dim=1)
        before = torch.ones(len(words), self.words_at, dtype=torch.bool, device=words.device)
        return Prefix(tokens, torch.cat([before, words != 0], dim=1), words)

    def word_looks(self, weights: Tensor, words: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Return camera to (B, N, T, h', w') of weights (M, Q, K) over the stream."""
        part = weights[:, self.words_at : self.words_at + words, : self.images.count]
        return self.images.looks(part.unflatten(0, shape))

    def looks(self, weights: Tensor, words: Tensor, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Return camera to (B, N, h', w'), the mean over the words (M, T) that are no padding."""
        part = weights[:, self.words_at : self.words_at + words.shape[1], : self.images.count]
        return self.images.looks(mean_over_words(part, words != 0).unflatten(0, shape))
