"""Preference-based learning: a policy maximizes a learned reward while staying close to its cloned version.

The cloned policy is run with a little noise. Clips of its rollouts are compared, a reward model learns the labeler's
preferences (`rewards.py`), and the policy maximizes its rewards by policy gradient (Williams 1992) with
the clipped ratio of PPO (Schulman et al. 2017), regularized by its divergence from the cloned policy.

The policy is a Gaussian around the network's output. Exploration shifts all rows of a chunk by one offset, so that the
random variable is u, the mean of the chunk's normalized positions, (3,), with standard deviation sigma:

    L = - mean[ min(r A, clip(r, 0.8, 1.2) A) ] + anchor * mean_rows |mu - mu_cloned|^2 / (2 sigma^2)
    r = exp( (|u - mu_old|^2 - |u - mu|^2) / (2 sigma^2) )
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vla_ros.data.episodes.demonstrations import Episode
from vla_ros.errors import VlaError
from vla_ros.models.contract import ModelInput, VlaModel

RATIO_RANGE = (0.8, 1.2)
"""Clipping range of the probability ratio to the policy that was run; beyond it an update gains nothing."""

TOOL = slice(0, 3)
"""Columns of the tool's position."""

DISCOUNT = 0.9
"""Discount of rewards per step of 0.1 s."""


@dataclass(frozen=True)
class Experience:
    """Steps of a policy's rollout: its input, `explored` (B, 3) mean normalized position, `advantage` (B,)."""

    inputs: ModelInput
    explored: Tensor
    advantage: Tensor


def step_features(episode: Episode, asked: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (steps, 9): the features of a clip that a labeler can see, per step, in units of about one.

    The target relative to the tool (3), the tool's height, the opening of the gripper, the target's height, and the
    first step of the executed chunk (3). A labeler who watches a clip sees the object and the hand, but gets no hint
    of what is good about them.
    """
    arrays = episode.arrays
    target = arrays["target"][np.arange(len(episode)), asked]
    way = (target - arrays["position"]) / 0.1
    rest = [arrays["position"][:, 2:] / 0.1, arrays["opening"][:, None] / 0.04, target[:, 2:] / 0.05]
    return np.concatenate([way, *rest, arrays["driven"][:, 0, :3] / 0.02], axis=1).astype(np.float32)


def cut_clips(
    features: Sequence[NDArray[np.float32]], progress: Sequence[NDArray[np.float32]], length: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return all clips of `length` steps, (clips, length, features), and the labeler's scores, (clips,).

    The labeler prefers the clip with more task progress between its first and last step.

    Raises:
        VlaError: when no episode is long enough.
    """
    clips, scores = [], []
    for values, how_far in zip(features, progress, strict=True):
        for start in range(0, len(values) - length + 1, max(1, length // 3)):
            clips.append(values[start : start + length])
            scores.append(how_far[start + length - 1] - how_far[start])
    if not clips:
        raise VlaError(f"no episode has {length} steps: clips cannot be cut")
    return np.stack(clips), np.array(scores, np.float32)


def advantages(rewards: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the advantages of all steps of all episodes, concatenated.

    The advantage is the discounted return, less its mean over the episodes at the same step, divided by its standard
    deviation.
    """
    returns = []
    for one in rewards:
        total, sums = 0.0, np.zeros(len(one), np.float32)
        for step in range(len(one) - 1, -1, -1):
            total = float(one[step]) + DISCOUNT * total
            sums[step] = total
        returns.append(sums)
    usual = [np.mean([r[t] for r in returns if len(r) > t]) for t in range(max(map(len, returns)))]
    flat = np.concatenate([r - np.array(usual[: len(r)], np.float32) for r in returns])
    return (flat / max(float(flat.std()), 1e-6)).astype(np.float32)


class PolicyGradient:
    """Policy-gradient objective for the training loop, see the module."""

    def __init__(self, played: VlaModel, cloned: VlaModel, sigma: float, anchor: float) -> None:
        """Store the policy that was run and the cloned one, both frozen.

        Raises:
            VlaError: when sigma is not positive or the anchor is negative.
        """
        if not sigma > 0.0 or anchor < 0.0:
            raise VlaError(f"sigma {sigma}, anchor {anchor}: expected a positive deviation and no negative weight")
        self._played, self._cloned = played.eval().requires_grad_(False), cloned.eval().requires_grad_(False)
        self._sigma, self._anchor = sigma, anchor

    def __call__(self, network: nn.Module, batch: Experience) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its terms."""
        # Networks may behave differently in training mode; the ratio compares policies at inference.
        network.eval()
        output = network.predict(batch.inputs)  # type: ignore[operator]
        with torch.no_grad():
            before, cloned = self._played.predict(batch.inputs), self._cloned.predict(batch.inputs)
        two_variances = 2.0 * self._sigma**2

        def error(positions: Tensor) -> Tensor:
            return (batch.explored - positions[:, 0].mean(dim=1)).square().sum(dim=-1)

        moved = output.continuous[..., TOOL]

        ratio = torch.exp((error(before.continuous[..., TOOL]) - error(moved)) / two_variances)
        low, high = RATIO_RANGE
        gain = torch.minimum(ratio * batch.advantage, ratio.clamp(low, high) * batch.advantage).mean()
        drift = (moved - cloned.continuous[..., TOOL]).square().sum(dim=-1).mean() / two_variances
        grip = (output.binary.sigmoid() - cloned.binary.sigmoid()).square().mean()
        loss = -gain + self._anchor * (drift + grip)
        return loss, {"gain": float(gain.detach()), "divergence": float(drift.detach()), "grip": float(grip.detach())}
