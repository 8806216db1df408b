"""Reward model learned from clip comparisons (Bradley and Terry 1952; Christiano et al. 2017).

P(first is better) = sigmoid(sum of rewards of the first - sum of rewards of the second)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.errors import VlaError


class RewardModel(nn.Module):
    """A small MLP that predicts the reward of each step of a clip."""

    def __init__(self, features: int, hidden: int = 64) -> None:
        """Build for steps of `features` values."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
        )

    def forward(self, steps: Tensor) -> Tensor:
        """Return rewards (...) for steps (..., features)."""
        rewards: Tensor = self.layers(steps)[..., 0]
        return rewards


@dataclass(frozen=True)
class Comparison:
    """Pairs of clips: `first` and `second` (B, T, features), `better` (B,), 1 where the first is better."""

    first: Tensor
    second: Tensor
    better: Tensor


def preference_loss(model: nn.Module, pairs: Comparison) -> tuple[Tensor, dict[str, float]]:
    """Return the cross entropy of the labeler's choices under the Bradley-Terry model, and the fraction predicted."""
    margin = model(pairs.first).sum(dim=-1) - model(pairs.second).sum(dim=-1)
    loss = functional.binary_cross_entropy_with_logits(margin, pairs.better)
    agreed = ((margin > 0) == (pairs.better > 0.5)).float().mean()
    return loss, {"preference": float(loss.detach()), "agreed": float(agreed)}


class PairBatches:
    """Batch source of clip pairs; the clip with the labeler's higher score is the better one."""

    def __init__(
        self, clips: NDArray[np.float32], scores: NDArray[np.float32], pairs: int, size: int, seed: int
    ) -> None:
        """Compare `pairs` random pairs once, and draw batches of `size` from those.

        Args:
            clips: (clips, T, features).
            scores: (clips,), the labeler's scores; ties are not compared.
            pairs: Number of comparisons.
            size: Batch size.
            seed: Seed of pairs and batches.

        Raises:
            VlaError: when no two clips differ in score.
        """
        rng = np.random.default_rng(seed)
        first, second = rng.integers(len(clips), size=(2, 4 * pairs))
        differ = np.flatnonzero(np.abs(scores[first] - scores[second]) > 1e-6)[:pairs]
        if not len(differ):
            raise VlaError(f"the judge sees no difference between any of {len(clips)} clips")
        self._clips, self._size, self._seed = clips, size, seed
        self.first, self.second = first[differ], second[differ]
        self.better = (scores[self.first] > scores[self.second]).astype(np.float32)

    def batch(self, update: int, part: int, parts: int) -> Comparison:
        """Return one part of an update's batch."""
        rng = np.random.default_rng([self._seed, update])
        chosen = rng.integers(len(self.better), size=self._size)[part::parts]
        return Comparison(
            torch.from_numpy(self._clips[self.first[chosen]]),
            torch.from_numpy(self._clips[self.second[chosen]]),
            torch.from_numpy(self.better[chosen]),
        )
