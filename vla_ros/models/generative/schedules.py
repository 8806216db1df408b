"""Noise schedules of Gaussian diffusion, and the forward and reverse steps between data and noise.

Names follow Ho et al. 2020 (arXiv 2006.11239). With steps t = 0 ... T-1:

================================  ==========================================================================
symbol                            attribute or method
================================  ==========================================================================
beta_t, alpha_t = 1 - beta_t      `betas`, `alphas`
bar alpha_t = prod alpha_s        `alphas_cumprod`; its value before t = 0 is 1
q(x_t | x_0)                      `q_sample`: sqrt(bar alpha_t) x_0 + sqrt(1 - bar alpha_t) epsilon
q(x_{t-1} | x_t, x_0)             `posterior`: its mean and variance, equations 6 and 7
p(x_{t-1} | x_t)                  `p_sample`: the posterior at the x_0 that the network predicts
DDIM (Song et al. 2021)           `ddim_step`: equation 12, from t to any earlier step
v = sqrt(bar a) eps - sqrt(1 - bar a) x_0    velocity (Salimans and Ho 2022), `velocity`
================================  ==========================================================================
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vla_ros.errors import ContractError

SCHEDULES = ("cosine", "linear")
PREDICTIONS = ("epsilon", "sample", "velocity")
"""Prediction types: the noise, the clean data, or the velocity between them."""

REFERENCE_STEPS = 1000
"""Number of steps for which the linear schedule's bounds are stated; fewer steps get proportionally larger ones."""


def linear_betas(steps: int) -> Tensor:
    """Return beta (steps,) float64 from 1e-4 to 0.02, scaled so that any number of steps ends in noise."""
    scale = REFERENCE_STEPS / steps
    return torch.linspace(scale * 1e-4, min(scale * 0.02, 0.999), steps, dtype=torch.float64)


def cosine_betas(steps: int, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """Return beta (steps,) float64 with bar alpha following a squared cosine (Nichol and Dhariwal 2021)."""
    times = torch.arange(steps + 1, dtype=torch.float64) / steps
    bar = torch.cos((times + offset) / (1.0 + offset) * math.pi / 2.0) ** 2
    return (1.0 - bar[1:] / bar[:-1]).clamp(max=largest)


def _check(name: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise ContractError(f"{name} is '{got}', expected one of {', '.join(known)}")


class NoiseSchedule:
    """Coefficients of one schedule, computed in float64 and stored in float32.

    They are not buffers of a network: a network converted to half precision would round 1 - bar alpha to 0.
    `x`, `x_0` and noise have any shape (B, ...); `t` is (B,) long, 0 to `steps` - 1.
    """

    def __init__(self, kind: str, steps: int, prediction: str = "epsilon") -> None:
        """Compute the schedule.

        Raises:
            ContractError: for an unknown kind or prediction, or fewer than two steps.
        """
        _check("the noise schedule", kind, SCHEDULES)
        _check("the prediction", prediction, PREDICTIONS)
        if steps < 2:
            raise ContractError(f"a noise schedule has {steps} steps, expected at least 2")
        self.kind, self.steps, self.prediction = kind, steps, prediction
        with torch.device("cpu"):  # real values even if a network is built on the meta device: they are few
            self._fill(kind, steps)
        self._moved: dict[tuple[str, torch.device], Tensor] = {}

    def _fill(self, kind: str, steps: int) -> None:
        betas = cosine_betas(steps) if kind == "cosine" else linear_betas(steps)
        alphas = 1.0 - betas
        bar = alphas.cumprod(0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
        self.betas, self.alphas, self.alphas_cumprod = betas.float(), alphas.float(), bar.float()
        self.sqrt_bar, self.sqrt_one_minus_bar = bar.sqrt().float(), (1.0 - bar).sqrt().float()
        self.posterior_x_0 = (betas * before.sqrt() / (1.0 - bar)).float()
        self.posterior_x_t = ((1.0 - before) * alphas.sqrt() / (1.0 - bar)).float()
        self.posterior_variance = (betas * (1.0 - before) / (1.0 - bar)).float()

    def _at(self, name: str, t: Tensor, x: Tensor) -> Tensor:
        """Return the coefficients `name` at the steps `t`, with the dtype of `x` and broadcastable to it."""
        key = (name, t.device)
        if key not in self._moved:
            self._moved[key] = getattr(self, name).to(t.device)
        return self._moved[key][t].to(x.dtype).view(-1, *[1] * (x.ndim - 1))

    def scales(self, step: int) -> tuple[float, float]:
        """Return the factors of data and noise in x_t at one step."""
        return float(self.sqrt_bar[step]), float(self.sqrt_one_minus_bar[step])

    def q_sample(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return x_t: the data `x_0` after `t` + 1 steps of noise."""
        return self._at("sqrt_bar", t, x_0) * x_0 + self._at("sqrt_one_minus_bar", t, x_0) * noise

    def velocity(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return v, the direction in which x_t rotates from data to noise."""
        return self._at("sqrt_bar", t, x_0) * noise - self._at("sqrt_one_minus_bar", t, x_0) * x_0

    def target(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the network's target at (x_0, t, noise), by `prediction`."""
        if self.prediction == "epsilon":
            return noise
        return x_0 if self.prediction == "sample" else self.velocity(x_0, t, noise)

    def believed(self, x_t: Tensor, t: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x_0, noise) implied by the network's `output` at `x_t`; the inverse of `target`."""
        signal, spread = self._at("sqrt_bar", t, x_t), self._at("sqrt_one_minus_bar", t, x_t)
        if self.prediction == "epsilon":
            return (x_t - spread * output) / signal, output
        if self.prediction == "sample":
            return output, (x_t - signal * output) / spread
        return signal * x_t - spread * output, spread * x_t + signal * output

    def posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (B, ...) and variance (B, 1, ...) of q(x_{t-1} | x_t, x_0); at t = 0 they are x_0 and 0."""
        mean = self._at("posterior_x_0", t, x_t) * x_0 + self._at("posterior_x_t", t, x_t) * x_t
        return mean, self._at("posterior_variance", t, x_t)

    def p_sample(self, x_t: Tensor, t: Tensor, output: Tensor, noise: Tensor, bound: float | None = None) -> Tensor:
        """Sample x_{t-1} from the posterior at the x_0 implied by `output`.

        Args:
            x_t: Current point of the chain.
            t: Its steps.
            output: The network's output there.
            noise: Standard normal, as `x_t`; unused at t = 0.
            bound: Largest absolute value that x_0 may have; None for any.
        """
        x_0, _ = self.believed(x_t, t, output)
        mean, variance = self.posterior(x_0 if bound is None else x_0.clamp(-bound, bound), x_t, t)
        return mean + variance.sqrt() * noise

    def ddim_step(
        self,
        x_t: Tensor,
        t: Tensor,
        output: Tensor,
        earlier: Tensor,
        eta: float = 0.0,
        noise: Tensor | None = None,
        bound: float | None = None,
    ) -> Tensor:
        """Return x at the step `earlier` < `t`, where -1 is the data itself.

        Args:
            x_t: Current point of the chain.
            t: Its steps.
            output: The network's output there.
            earlier: Target steps, (B,) long.
            eta: 0 follows the deterministic path, 1 has the variance of the posterior.
            noise: Standard normal, as `x_t`; needed when `eta` is not 0.
            bound: Largest absolute value that x_0 may have; None for any.
        """
        x_0, epsilon = self.believed(x_t, t, output)
        now = self._at("alphas_cumprod", t, x_t)
        ends = (earlier < 0).view_as(now)
        there = self._at("alphas_cumprod", earlier.clamp(min=0), x_t).masked_fill(ends, 1.0)
        if bound is not None:
            x_0 = x_0.clamp(-bound, bound)
            epsilon = (x_t - now.sqrt() * x_0) / (1.0 - now).sqrt()
        variance = eta**2 * (1.0 - there) / (1.0 - now) * (1.0 - now / there)
        result = there.sqrt() * x_0 + (1.0 - there - variance).clamp(min=0.0).sqrt() * epsilon
        if eta == 0.0:
            return result
        if noise is None:
            raise ValueError(f"eta is {eta}: the step needs noise")
        return result + variance.sqrt() * noise

    def visited(self, count: int) -> list[int]:
        """Return `count` evenly spaced steps from the last to 0, for sampling with fewer steps.

        Raises:
            ContractError: when `count` is not between 1 and `steps`.
        """
        if not 1 <= count <= self.steps:
            raise ContractError(f"sampling takes {count} steps, expected 1 to {self.steps}, those of the schedule")
        if count == 1:
            return [self.steps - 1]
        return [round(i * (self.steps - 1) / (count - 1)) for i in reversed(range(count))]
