"""Conditional flow matching for actions, as in the action expert of pi0 (Black et al. 2024, arXiv 2410.24164).

A straight path connects noise (time 0) and data (time 1): x_t = (1 - t) noise + t data. The network learns its
velocity, data - noise (Lipman et al. 2023; rectified flow, Liu et al. 2023); a chunk is sampled in a few Euler steps.
Encoders, denoiser and interface are those of `diffusion`, without a noise schedule and its steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vla_ros.errors import ContractError
from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget
from vla_ros.models.generative.drawn import DrawnConfig, DrawnModel
from vla_ros.models.layers.conditioning import Context, belief_losses, mean_where
from vla_ros.models.losses import total

MAX_TRAIN_TIME = 0.999
"""Latest time sampled in training; Beta(1.5, 1) favors times near the noise, which decide the action (pi0, app. B)."""


@dataclass(frozen=True)
class FlowConfig(DrawnConfig):
    """Sizes of the network, and its sampling.

    Attributes:
        integration_steps: Number of Euler steps from noise to actions.
    """

    integration_steps: int = 10

    def __post_init__(self) -> None:
        if self.integration_steps < 1:
            raise ContractError(f"integration_steps is {self.integration_steps}, expected at least 1")


class FlowModel(DrawnModel):
    """Flow-matching policy: a velocity network conditioned on images, instruction and state."""

    Config = FlowConfig
    FULL: ClassVar = {  # the denoiser is as wide as pi0's action expert
        "cameras": {"front": [224, 224], "wrist": [224, 224]},
        "vocabulary": 4096,
        "state_width": 10,
        "horizon": 50,
        "words": 48,
        "width": 1024,
        "heads": 8,
        "depth": 8,
        "queries": 16,
        "layers": 18,
    }
    config: FlowConfig

    def own_heads(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return the chunk (B, N, H, A) that one full step along the velocity predicted at pure noise reaches."""
        context = self.context(inputs)
        noise = self.draw_noise(context, None)
        guess = noise + self.velocity(noise, torch.zeros(len(noise), device=noise.device), context)
        return {"first_guess": guess.unflatten(0, inputs.tokens.shape[:2])}

    def velocity(self, x: Tensor, time: Tensor, context: Context) -> Tensor:
        """Return dx/dt (M, H, A) at `x` (M, H, A) and `time` (M,), 0 for noise to 1 for data.

        The path keeps the dtype of `x`, whatever the network's is.
        """
        velocity: Tensor = self.denoiser(x.to(context.summary.dtype), 1.0 - time, context)
        return velocity.to(x.dtype)

    def path_times(self) -> list[float]:
        """Return the times of the Euler steps; the last one is 1."""
        steps = self.config.integration_steps
        return [step / steps for step in range(steps + 1)]

    def estimate(self, x: Tensor, step: int, context: Context) -> tuple[Tensor, Tensor]:
        """Return the end (data) and the start (noise) of the straight line through `x` along its velocity."""
        time = self.path_times()[step]
        velocity = self.velocity(x, torch.full((len(x),), time, device=x.device, dtype=x.dtype), context)
        return x + (1.0 - time) * velocity, x - time * velocity

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss: the velocity where the object is visible, its location, and whether it is visible."""
        self.check(inputs, target)
        context = self.context(inputs)
        data = target.actions().flatten(0, 1).float()
        noise = torch.randn_like(data)
        time = draw_times(len(data), data)
        wrong = self.velocity(between(noise, data, time), time, context) - (data - noise)
        parts = {
            "velocity": mean_where((wrong**2).mean(dim=(1, 2)), target.target_visible.flatten()),
            **belief_losses(context, target),
        }
        return total(parts)

    def predict(self, inputs: ModelInput, generator: torch.Generator | None = None) -> ModelOutput:
        """Sample a chunk for every instruction and scene.

        Args:
            inputs: Images, state and instructions.
            generator: Source of the noise; None for the noise of `seed`, the same for every scene on every call.
        """
        self.check(inputs)
        context = self.context(inputs, look=True)
        noise = self.draw_noise(context, generator)
        actions = integrate(lambda x, time: self.velocity(x, time, context), noise, self.config.integration_steps)
        return self.output(actions, context, inputs)


def between(noise: Tensor, data: Tensor, time: Tensor) -> Tensor:
    """Return the point of the straight path from `noise` to `data`, both (M, ...), at `time` (M,)."""
    fraction = time.view(-1, *[1] * (data.ndim - 1))
    return (1.0 - fraction) * noise + fraction * data


def draw_times(count: int, like: Tensor) -> Tensor:
    """Sample (count,) training times `MAX_TRAIN_TIME` (1 - b), b ~ Beta(1.5, 1), more of them near noise."""
    # Inverse transform sampling: the distribution function of Beta(1.5, 1) is b ** 1.5.
    uniform = torch.rand(count, device=like.device, dtype=torch.float32)
    return (MAX_TRAIN_TIME * (1.0 - uniform ** (1.0 / 1.5))).to(like.dtype)


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Return the end (M, ...) of `steps` Euler steps along `velocity`(x, time) from `noise` (M, ...)."""
    x = noise
    for step in range(steps):
        time = torch.full((len(x),), step / steps, device=x.device, dtype=x.dtype)
        x = x + velocity(x, time) / steps
    return x
