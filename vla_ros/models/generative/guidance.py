"""Inpainting by guidance: samples chunks whose known rows are preserved.

Real-time chunking (Black, Galliker and Levine 2025, arXiv 2506.07339, equations 2 to 4) guides the flow from noise to
data so that the rows executed during inference are preserved. With the path x = (1 - t) noise + t data, the data D(x)
that the network predicts at (x, t), and rows `known` with weights W:

    velocity = D(x) - noise(x) + min(beta, (t^2 + (1 - t)^2) / (t (1 - t))) (dD/dx)^T W (known - D(x))

Diffusion uses the same path: with t = signal / (signal + spread) its x_t, divided by signal + spread, lies on it, and a
DDIM step without noise is an Euler step along it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

Estimate = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Maps (x on the path (M, H, A), step index) to the data and the noise that the network predicts there."""

MAX_GUIDANCE_WEIGHT = 5.0
"""Maximum guidance weight, beta of the paper: with few steps a stronger guidance diverges."""


def guidance_strength(time: float, largest: float = MAX_GUIDANCE_WEIGHT) -> float:
    """Return the guidance weight at `time`, 0 for noise to 1 for data."""
    return largest if time <= 0.0 else min(largest, (time**2 + (1.0 - time) ** 2) / (time * (1.0 - time)))


def integrate_towards(
    estimate: Estimate, noise: Tensor, times: Sequence[float], known: Tensor, weights: Tensor
) -> Tensor:
    """Return the data (M, H, A) at the end of the guided path.

    Args:
        estimate: The network's prediction.
        noise: (M, H, A), start of the path.
        times: Increasing, the last one 1: one step from each to the next.
        known: (H, A), rows to preserve, normalized; any values where their weight is 0.
        weights: (H,), 0 to 1.
    """
    x, pull = noise, weights[:, None]
    for step, (time, later) in enumerate(pairwise(times)):
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            data, predicted_noise = estimate(at, step)
            (correction,) = torch.autograd.grad(data, at, ((known - data) * pull).detach())
        velocity = (data - predicted_noise).detach() + guidance_strength(time) * correction
        x = at.detach() + (later - time) * velocity
    return x
