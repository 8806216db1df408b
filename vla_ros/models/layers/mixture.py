"""A probability distribution over action chunks: a mixture of plans, each with its own spread.

With weights w_k, means mu_k and stds sigma_k of the H rows of C continuous columns, and probs p_k of the G
binary ones:  p(a) = sum_k w_k prod_h [ prod_d N(a_hd; mu_khd, sigma_khd) prod_b Bernoulli(g_hb; p_khb) ]
(Bishop 1994).
One k applies to the whole chunk, so that rows of different plans are never mixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class ActionMixture:
    """K plans of H rows, with any leading axes (...).

    Attributes:
        weights: (..., K) logits.
        means: (..., K, H, C), normalized.
        stds: (..., K, H, C), positive.
        binary: (..., K, H, G) logits of "on".
    """

    weights: Tensor
    means: Tensor
    stds: Tensor
    binary: Tensor

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return (...), the log density of actions (..., H, C + G), whose binary columns are -1 or 1."""
        return self._joint(actions).logsumexp(dim=-1)

    def responsibilities(self, actions: Tensor) -> Tensor:
        """Return (..., K), the posterior probability of each plan given actions (..., H, C + G)."""
        return self._joint(actions).softmax(dim=-1)

    def _joint(self, actions: Tensor) -> Tensor:
        """Return (..., K), the joint log density of each plan and the actions, in fp32."""
        continuous = self.means.shape[-1]
        values, on = actions[..., None, :, :continuous].float(), (actions[..., None, :, continuous:] > 0).float()
        stds = self.stds.float()
        distance = (values - self.means.float()) / stds
        normal = -0.5 * distance.square() - stds.log() - 0.5 * math.log(2.0 * math.pi)
        logits = self.binary.float()
        bernoulli = -functional.binary_cross_entropy_with_logits(logits, on.expand_as(logits), reduction="none")
        return self.weights.float().log_softmax(dim=-1) + normal.sum(dim=(-2, -1)) + bernoulli.sum(dim=(-2, -1))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Sample one chunk (..., H, C + G): a plan, then its rows."""
        probs = self.weights.float().softmax(dim=-1)
        plan = torch.multinomial(probs.flatten(0, -2), 1, generator=generator).view(probs.shape[:-1])
        means, stds, binary = self._take(plan)
        noise = torch.randn(means.shape, generator=generator, device=means.device, dtype=means.dtype)
        chance = torch.rand(binary.shape, generator=generator, device=means.device, dtype=torch.float32)
        on = 2.0 * (chance < binary.float().sigmoid()).to(means.dtype) - 1.0
        return torch.cat([means + stds * noise, on], dim=-1)

    def most_likely(self) -> tuple[Tensor, Tensor]:
        """Return the mean (..., H, C) and the binary logits (..., H, G) of the plan with the largest weight."""
        means, _, binary = self._take(self.weights.argmax(dim=-1))
        return means, binary

    def _take(self, plan: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return means, standard deviations and binary logits of the plans (...)."""

        def pick(values: Tensor) -> Tensor:
            index = plan.view(*plan.shape, *[1] * (values.ndim - plan.ndim))
            index = index.expand(*plan.shape, 1, *values.shape[plan.ndim + 1 :])
            return values.gather(plan.ndim, index).squeeze(plan.ndim)

        return pick(self.means), pick(self.stds), pick(self.binary)
