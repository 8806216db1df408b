"""Learned head that selects among symbolic actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.actions.vocabulary import SymbolicVocabulary
from vla_ros.models.batch import check_width


class SymbolicHead(nn.Module):
    """Maps features of any network to logits over a vocabulary."""

    def __init__(self, width: int, vocabulary: SymbolicVocabulary | None = None) -> None:
        """Build for features of `width`."""
        super().__init__()
        self.vocabulary = vocabulary or SymbolicVocabulary()
        self.width = width
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, len(self.vocabulary))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., actions) of features (..., width)."""
        check_width("features", features, self.width)
        logits: Tensor = self.logits(self.norm(features))
        return logits

    def choose(self, features: Tensor) -> list[str]:
        """Return the most likely action of each row of (M, width)."""
        with torch.no_grad():
            return self.vocabulary.detokenise_plan(self(features).argmax(dim=-1).tolist())

    def compute_loss(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Return the cross entropy of features (M, width) against token ids (M,).

        Raises:
            ValueError: when shapes do not match, or an id is not an action.
        """
        if tokens.shape != features.shape[:-1] or not tokens.numel():
            raise ValueError(f"features {tuple(features.shape)} and tokens {tuple(tokens.shape)} do not fit")
        if int(tokens.min()) < 0 or int(tokens.max()) >= len(self.vocabulary):
            raise ValueError(f"tokens {tokens.unique().tolist()}, expected 0 to {len(self.vocabulary) - 1}")
        return functional.cross_entropy(self(features).flatten(0, -2), tokens.flatten())
