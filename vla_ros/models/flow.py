"""Conditional flow matching for actions, as the head of pi0 does it (Black et al. 2024, arXiv 2410.24164).

A straight line leads from noise (time 0) to data (time 1): x_t = (1 - t) noise + t data. The network learns its
velocity, data - noise (Lipman et al. 2023; rectified flow, Liu et al. 2023), and drawing a chunk is a few Euler steps.
The encoders, the denoiser and the contract are those of `diffusion`; the noise schedule and its steps are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vla_ros.errors import ContractError
from vla_ros.models.conditioning import Context, ContextEncoder, belief_losses, draw_noise, mean_where
from vla_ros.models.contract import ModelInput, ModelOutput, ModelTarget, VlaModel
from vla_ros.models.denoisers import build_denoiser
from vla_ros.models.diffusion import COLUMNS, output_of
from vla_ros.models.encoders import check_input, read_config

LATEST_TRAINED = 0.999
"""Training draws times up to here, Beta(1.5, 1) towards the noise, where it is decided what to do (pi0, appendix B)."""


@dataclass(frozen=True)
class FlowConfig:
    """Sizes of the network, and how it draws.

    Attributes:
        cameras: Camera name to (height, width) of its images.
        vocabulary: How many words there are.
        state_width: Numbers of proprioception.
        horizon: Rows a chunk.
        words: Most words of a sentence.
        width: Numbers a token.
        heads: Of each attention.
        patch: Pixels, each way, of an image token.
        depth: Blocks over each picture and over the sentence.
        queries: Looks at the pictures that the denoiser is told.
        denoiser: "transformer" or "unet".
        layers: Blocks of the transformer, or levels of the U-Net.
        integration_steps: Euler steps from noise to actions.
        seed: Of the noise that `act` starts from when it is given no generator.
    """

    cameras: Mapping[str, tuple[int, int]]
    vocabulary: int
    state_width: int
    horizon: int
    words: int = 16
    width: int = 128
    heads: int = 4
    patch: int = 16
    depth: int = 1
    queries: int = 4
    denoiser: str = "transformer"
    layers: int = 4
    integration_steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.integration_steps < 1:
            raise ContractError(f"integration_steps is {self.integration_steps}, expected at least 1")


class FlowModel(VlaModel):
    """See the module."""

    def __init__(self, config: FlowConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config = config
        self.context = ContextEncoder(
            config.cameras, config.vocabulary, config.state_width, words=config.words, width=config.width,
            heads=config.heads, patch=config.patch, depth=config.depth, queries=config.queries,
        )  # fmt: skip
        self.denoiser = build_denoiser(
            config.denoiser, COLUMNS, config.horizon, config.width, config.heads, config.layers
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FlowModel:
        """Build from plain values, as they stand in a checkpoint."""
        return cls(read_config(FlowConfig, config))

    def velocity(self, x: Tensor, time: Tensor, context: Context) -> Tensor:
        """Return dx/dt (M, H, 7) at `x` (M, H, 7) and `time` (M,), 0 for noise to 1 for data.

        The path is kept in the precision of `x`, whatever that of the network is.
        """
        return self.denoiser(x.to(context.summary.dtype), 1.0 - time, context).to(x.dtype)

    def compute_loss(self, given: ModelInput, wanted: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss: the velocity where the object is there, its place, and whether it is there."""
        self._check(given)
        context = self.context(given)
        data = wanted.actions().flatten(0, 1).float()
        noise = torch.randn_like(data)
        time = draw_times(len(data), data)
        wrong = self.velocity(between(noise, data, time), time, context) - (data - noise)
        parts = {
            "velocity": mean_where((wrong**2).mean(dim=(1, 2)), wanted.present.flatten()),
            **belief_losses(context, wanted),
        }
        return torch.stack(list(parts.values())).sum(), {name: float(part.detach()) for name, part in parts.items()}

    def act(self, given: ModelInput, generator: torch.Generator | None = None) -> ModelOutput:
        """Draw a chunk for every sentence about every scene.

        Args:
            given: What is seen and said.
            generator: Where the noise comes from; None for the noise of `seed`, the same for every scene, every time.
        """
        self._check(given)
        context = self.context(given, look=True)
        rows = len(context.summary)
        shape = (self.config.horizon, COLUMNS)
        noise = draw_noise(rows, shape, context.summary.device, generator, self.config.seed)
        actions = integrate(lambda x, time: self.velocity(x, time, context), noise, self.config.integration_steps)
        return output_of(actions, context, given)

    def _check(self, given: ModelInput) -> None:
        config = self.config
        check_input(given, config.cameras, config.vocabulary, config.state_width, config.words)


def between(noise: Tensor, data: Tensor, time: Tensor) -> Tensor:
    """Return the point of the straight path from `noise` to `data`, both (M, ...), at `time` (M,)."""
    share = time.view(-1, *[1] * (data.ndim - 1))
    return (1.0 - share) * noise + share * data


def draw_times(count: int, like: Tensor) -> Tensor:
    """Return (count,) times for training: LATEST_TRAINED (1 - b), b ~ Beta(1.5, 1), more of them near the noise."""
    # The distribution function of Beta(1.5, 1) is b ** 1.5, whose inverse turns uniform numbers into its own.
    uniform = torch.rand(count, device=like.device, dtype=torch.float32)
    return (LATEST_TRAINED * (1.0 - uniform ** (1.0 / 1.5))).to(like.dtype)


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Return where `steps` Euler steps along `velocity`(x, time) lead from `noise` (M, ...)."""
    x = noise
    for step in range(steps):
        time = torch.full((len(x),), step / steps, device=x.device, dtype=x.dtype)
        x = x + velocity(x, time) / steps
    return x


def tiny_config(
    cameras: Mapping[str, tuple[int, int]], vocabulary: int, state_width: int, horizon: int
) -> dict[str, Any]:
    """Return sizes that train on one CPU core."""
    return {
        "cameras": dict(cameras), "vocabulary": vocabulary, "state_width": state_width, "horizon": horizon,
        "width": 64, "depth": 0, "layers": 2,
    }  # fmt: skip


def full_config() -> dict[str, Any]:
    """Return sizes for a GPU and two cameras of 224 x 224; the denoiser is as wide as pi0's action expert."""
    return {
        "cameras": {"front": (224, 224), "wrist": (224, 224)}, "vocabulary": 4096, "state_width": 10, "horizon": 50,
        "words": 48, "width": 1024, "heads": 8, "depth": 8, "queries": 16, "layers": 18,
    }  # fmt: skip
