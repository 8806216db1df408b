"""A distribution over whole action chunks: a few plans, each with its own spread, scored and sampled.

With weights w_k, means mu_k and deviations sigma_k of the H rows of 6 continuous columns, and chances p_k of an open
gripper:  p(a) = sum_k w_k prod_h [ prod_d N(a_hd; mu_khd, sigma_khd) ] Bernoulli(g_h; p_kh)   (Bishop 1994).
One k holds for the whole chunk, so that rows of different plans are never mixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class ActionMixture:
    """K plans of H rows; leading axes (...) are free. Columns: 3 of position, 3 of rotation, normalised; the gripper.

    Attributes:
        weights: (..., K) logits.
        means: (..., K, H, 6).
        deviations: (..., K, H, 6), positive.
        gripper: (..., K, H) logits of "open".
    """

    weights: Tensor
    means: Tensor
    deviations: Tensor
    gripper: Tensor

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return (...), the log density of actions (..., H, 7), whose last column is -1 closed or 1 open."""
        return self._joint(actions).logsumexp(dim=-1)

    def responsibilities(self, actions: Tensor) -> Tensor:
        """Return (..., K), how likely each plan is to have made actions (..., H, 7); they sum to 1."""
        return self._joint(actions).softmax(dim=-1)

    def _joint(self, actions: Tensor) -> Tensor:
        """Return (..., K), the log density of a plan and the actions together, in fp32."""
        values, opened = actions[..., None, :, :6].float(), (actions[..., None, :, 6] > 0).float()
        deviations = self.deviations.float()
        distance = (values - self.means.float()) / deviations
        normal = -0.5 * distance.square() - deviations.log() - 0.5 * math.log(2.0 * math.pi)
        logits = self.gripper.float()
        bernoulli = -functional.binary_cross_entropy_with_logits(logits, opened.expand_as(logits), reduction="none")
        return self.weights.float().log_softmax(dim=-1) + normal.sum(dim=(-2, -1)) + bernoulli.sum(dim=-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one chunk (..., H, 7): a plan, then its rows."""
        chances = self.weights.float().softmax(dim=-1)
        plan = torch.multinomial(chances.flatten(0, -2), 1, generator=generator).view(chances.shape[:-1])
        means, deviations, gripper = self._take(plan)
        noise = torch.randn(means.shape, generator=generator, device=means.device, dtype=means.dtype)
        chance = torch.rand(gripper.shape, generator=generator, device=means.device, dtype=torch.float32)
        opened = 2.0 * (chance < gripper.float().sigmoid()).to(means.dtype) - 1.0
        return torch.cat([means + deviations * noise, opened[..., None]], dim=-1)

    def likeliest(self) -> tuple[Tensor, Tensor]:
        """Return the mean (..., H, 6) and the gripper's logits (..., H) of the plan with the largest weight."""
        means, _, gripper = self._take(self.weights.argmax(dim=-1))
        return means, gripper

    def _take(self, plan: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return means, deviations and gripper of the plans (...)."""

        def pick(values: Tensor) -> Tensor:
            index = plan.view(*plan.shape, *[1] * (values.ndim - plan.ndim))
            index = index.expand(*plan.shape, 1, *values.shape[plan.ndim + 1 :])
            return values.gather(plan.ndim, index).squeeze(plan.ndim)

        return pick(self.means), pick(self.deviations), pick(self.gripper)
