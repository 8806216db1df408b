"""Diffusion Policy (Chi et al. 2023, arXiv 2303.04137): action chunks sampled from noise, given images and instruction.

Trained to remove Gaussian noise (Ho et al. 2020); sampled by the reverse chain, or in fewer steps by DDIM (Song et
al.). Where a task has several good solutions it samples one of them instead of their mean.

Receding horizon: E = `execute` of the H rows of a chunk are executed before the next observation:

    row of the first chunk    0 ... E-1 | E ... H-1
                              executed    dropped, or the start of the next chunk (`continue_from`)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vla_ros.errors import ContractError
from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget
from vla_ros.models.generative.drawn import DrawnConfig, DrawnModel
from vla_ros.models.generative.schedules import NoiseSchedule
from vla_ros.models.layers.conditioning import Context, belief_losses, mean_where
from vla_ros.models.losses import total

SAMPLERS = ("ddim", "ddpm")


@dataclass(frozen=True)
class DiffusionConfig(DrawnConfig):
    """Sizes of the network, and its sampling.

    Attributes:
        schedule: "cosine" or "linear".
        steps: Number of noise steps.
        prediction: "epsilon", "sample" or "velocity".
        sampler: "ddim" or "ddpm" (all steps, with noise).
        sampling_steps: Number of `steps` that DDIM visits.
        bound: Largest absolute value of a normalized action.
        execute: Number of rows to execute before the next observation; 0 for half the horizon.
    """

    schedule: str = "cosine"
    steps: int = 100
    prediction: str = "epsilon"
    sampler: str = "ddim"
    sampling_steps: int = 10
    bound: float = 5.0
    execute: int = 0

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ContractError(f"sampler '{self.sampler}', expected one of {', '.join(SAMPLERS)}")
        if not 1 <= self.sampling_steps <= self.steps:
            raise ContractError(f"sampling_steps is {self.sampling_steps}, expected 1 to steps, {self.steps}")
        if not 0 <= self.execute <= self.horizon:
            raise ContractError(f"execute is {self.execute}, expected 0 to the horizon, {self.horizon}")
        if not self.bound > 0:
            raise ContractError(f"bound is {self.bound}, expected more than 0")


class DiffusionModel(DrawnModel):
    """Diffusion policy: a denoiser conditioned on images, instruction and state."""

    Config = DiffusionConfig
    TINY: ClassVar = {**DrawnModel.TINY, "prediction": "sample"}
    FULL: ClassVar = {  # close to the paper's image-conditioned transformer
        "cameras": {"front": [224, 224], "wrist": [224, 224]},
        "vocabulary": 4096,
        "state_width": 10,
        "horizon": 16,
        "words": 32,
        "width": 512,
        "heads": 8,
        "depth": 6,
        "queries": 8,
        "layers": 8,
    }
    config: DiffusionConfig

    def __init__(self, config: DiffusionConfig) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        self.schedule = NoiseSchedule(config.schedule, config.steps, config.prediction)

    def own_heads(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return the clean chunk (B, N, H, A) that the denoiser predicts at its first step, from pure noise."""
        context = self.context(inputs)
        noise = self.draw_noise(context, None)
        t = self._steps(noise, self.config.steps - 1)
        guess, _ = self.schedule.believed(noise, t, self.denoise(noise, t, context))
        return {"first_guess": guess.unflatten(0, inputs.tokens.shape[:2])}

    @property
    def execute(self) -> int:
        """Number of rows of a chunk to execute before the next observation."""
        return self.config.execute or max(1, self.config.horizon // 2)

    def denoise(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return the network's output (M, H, A) at the steps `t` (M,): noise, clean chunk or velocity, by `prediction`.

        The chain keeps the dtype of `x_t`, whatever the network's is.
        """
        inside = context.summary.dtype
        output: Tensor = self.denoiser(x_t.to(inside), (t.float() + 1.0) / self.config.steps, context)
        return output.to(x_t.dtype)

    def p_losses(self, x_0: Tensor, t: Tensor, noise: Tensor, context: Context) -> Tensor:
        """Return the mean squared error (M,) of the output at the noisy x_t, equation 14 of Ho et al."""
        output = self.denoise(self.schedule.q_sample(x_0, t, noise), t, context)
        return ((output - self.schedule.target(x_0, t, noise)) ** 2).mean(dim=(1, 2))

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss: the noise where the object is visible, its location, and whether it is visible."""
        self.check(inputs, target)
        context = self.context(inputs)
        x_0 = target.actions().flatten(0, 1).float()
        t = torch.randint(self.config.steps, (len(x_0),), device=x_0.device)
        parts = {
            "noise": mean_where(self.p_losses(x_0, t, torch.randn_like(x_0), context), target.target_visible.flatten()),
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
        return self.output(self.sample(self.draw_noise(context, generator), context, generator), context, inputs)

    def continue_from(
        self,
        inputs: ModelInput,
        previous: Tensor,
        done: int,
        strength: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> ModelOutput:
        """Sample the next chunk near the rest of the previous one: fewer steps, and no jump to another solution.

        The rest, its last row repeated, is noised to a fraction of the chain, which then runs from there.

        Args:
            inputs: Current images, state and instructions.
            previous: (B, N, H, A), the previous chunk, as `actions_of` returns it.
            done: Number of its rows already executed.
            strength: Fraction of the chain that runs: 0 hardly changes the chunk, 1 ignores it.
            generator: As in `predict`.

        Raises:
            ContractError: when `done` or `strength` is out of range.
        """
        self.check(inputs)
        if not 0 <= done <= self.config.horizon or not 0.0 <= strength <= 1.0:
            raise ContractError(
                f"done is {done}, expected 0 to {self.config.horizon}; strength is {strength}, expected 0 to 1"
            )
        context = self.context(inputs, look=True)
        known = previous.flatten(0, 1).float()
        rest, last = known[:, done:], known[:, -1:].expand(-1, done, -1)
        noise = self.draw_noise(context, generator)
        start = round(strength * (self.config.steps - 1))
        x = self.schedule.q_sample(torch.cat([rest, last], dim=1), self._steps(noise, start), noise)
        return self.output(self.sample(x, context, generator, start), context, inputs)

    def path_times(self) -> list[float]:
        """Return DDIM's times on the straight path from noise to data, whichever sampler `predict` uses."""
        scales = [self.schedule.scales(step) for step in self.schedule.visited(self.config.sampling_steps)]
        return [*(signal / (signal + spread) for signal, spread in scales), 1.0]

    def path_start(self, noise: Tensor) -> Tensor:
        """Return the chain's start, which retains a trace of signal, scaled onto the straight path."""
        return noise / sum(self.schedule.scales(self.schedule.visited(self.config.sampling_steps)[0]))

    def estimate(self, x: Tensor, step: int, context: Context) -> tuple[Tensor, Tensor]:
        """Return the clean chunk and the noise that the denoiser predicts at `x` on that path."""
        visited = self.schedule.visited(self.config.sampling_steps)[step]
        signal, spread = self.schedule.scales(visited)
        x_t, t = (signal + spread) * x, self._steps(x, visited)
        x_0, _ = self.schedule.believed(x_t, t, self.denoise(x_t, t, context))
        x_0 = x_0.clamp(-self.config.bound, self.config.bound)
        return x_0, (x_t - signal * x_0) / spread

    def sample(
        self, x: Tensor, context: Context, generator: torch.Generator | None = None, start: int | None = None
    ) -> Tensor:
        """Run the reverse chain from `x` (M, H, A) at step `start` (the last when None) to the data (M, H, A)."""
        start = self.config.steps - 1 if start is None else start
        bound = self.config.bound
        if self.config.sampler == "ddpm":
            for step in range(start, -1, -1):
                t = self._steps(x, step)
                noise = self.draw_noise(context, generator, self.config.seed + 1 + step)
                x = self.schedule.p_sample(x, t, self.denoise(x, t, context), noise, bound)
            return x
        visited = [step for step in self.schedule.visited(self.config.sampling_steps) if step < start]
        for step, earlier in zip([start, *visited], [*visited, -1], strict=True):
            t = self._steps(x, step)
            x = self.schedule.ddim_step(x, t, self.denoise(x, t, context), self._steps(x, earlier), bound=bound)
        return x

    def _steps(self, x: Tensor, step: int) -> Tensor:
        return torch.full((len(x),), step, dtype=torch.long, device=x.device)


def actions_of(output: ModelOutput) -> Tensor:
    """Return (B, N, H, A), the inverse of `ModelOutput.from_actions`."""
    return torch.cat([output.continuous, output.binary / 4.0], dim=-1)
