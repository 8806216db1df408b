"""Base of the networks that sample their actions from noise: diffusion and flow matching."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from vla_ros.models.batch import ModelInput, ModelOutput
from vla_ros.models.configuration import TransformerConfig
from vla_ros.models.contract import Backbone, VlaModel
from vla_ros.models.generative.denoisers import build_denoiser
from vla_ros.models.generative.guidance import integrate_towards
from vla_ros.models.layers.conditioning import Context, ContextEncoder
from vla_ros.models.layers.published import IMAGE_KINDS, TEXT_KINDS
from vla_ros.models.layers.scene import cached_shape, named_backbones
from vla_ros.models.trunk import KIND


@dataclass(frozen=True)
class DrawnConfig(TransformerConfig):
    """Configuration of the network and of its sampling.

    Attributes:
        depth: Number of blocks over each image and over the instruction.
        queries: Number of queries whose attention to the images conditions the denoiser.
        denoiser: "transformer" or "unet".
        layers: Number of transformer blocks, or of U-Net levels.
        seed: Seed of the noise that `predict` starts from without a generator.
        vision: Trunk or published vision transformer in place of the image encoder and of `patch`:
            {"kind": ..., sizes}, see `published.IMAGE_KINDS`.
        text: Trunk or published text encoder in place of the text encoder, likewise.
    """

    depth: int = 1
    queries: int = 4
    denoiser: str = "transformer"
    layers: int = 4
    seed: int = 0
    vision: Mapping[str, Any] | None = None
    text: Mapping[str, Any] | None = None


class DrawnModel(VlaModel):
    """Encoders that summarize the scene in few tokens, and a denoiser conditioned on them at each step."""

    TINY: ClassVar = {"width": 64, "depth": 0, "layers": 2}
    BACKBONES: ClassVar = {"vision": (*IMAGE_KINDS, KIND), "text": (*TEXT_KINDS, KIND)}
    config: DrawnConfig

    def __init__(self, config: DrawnConfig) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        c = config
        self.context = ContextEncoder(
            c.cameras,
            c.vocabulary,
            c.state_width,
            words=c.words,
            width=c.width,
            heads=c.heads,
            patch=c.patch,
            depth=c.depth,
            queries=c.queries,
            vision=c.vision,
            text=c.text,
        )
        self.denoiser = build_denoiser(c.denoiser, c.action.width, c.horizon, c.width, c.heads, c.layers)

    def backbones(self) -> dict[str, Backbone]:
        """Return the parts that accept published weights."""
        return named_backbones(self.context.images, self.context.text)

    def cached_shape(self, camera: str) -> tuple[int, int, int] | None:
        """Return the shape of the feature map that may replace a camera's image."""
        return cached_shape(self.config, self.context.images, camera)

    @abstractmethod
    def path_times(self) -> list[float]:
        """Return the times of the steps from noise to data, ending at 1; see `guidance`."""

    def path_start(self, noise: Tensor) -> Tensor:
        """Return the point on the path at which `predict` starts, from its noise (M, H, A)."""
        return noise

    @abstractmethod
    def estimate(self, x: Tensor, step: int, context: Context) -> tuple[Tensor, Tensor]:
        """Return the data and the noise (M, H, A) that the network predicts at `x`, at step `step` of `path_times`."""

    def predict_guided(
        self, inputs: ModelInput, known: Tensor, weights: Tensor, generator: torch.Generator | None = None
    ) -> ModelOutput:
        """Sample chunks that match known rows; computes gradients whatever the caller's grad mode.

        Args:
            inputs: The input.
            known: (H, A) known rows, laid out as in `ModelTarget.actions`.
            weights: (H,), 1 to keep a row, 0 to leave it free.
            generator: As in `predict`.

        Raises:
            ValueError: for known rows or weights of another shape.
        """
        self.check(inputs)
        shape = (self.config.horizon, self.config.action.width)
        if tuple(known.shape) != shape or tuple(weights.shape) != shape[:1]:
            raise ValueError(f"known rows {tuple(known.shape)} with weights {tuple(weights.shape)}, expected {shape}")
        with torch.no_grad():
            context = self.context(inputs, look=True)
            noise = self.path_start(self.draw_noise(context, generator))
        actions = integrate_towards(
            lambda x, step: self.estimate(x, step, context), noise, self.path_times(), known.float(), weights.float()
        )
        return self.output(actions, context, inputs)

    def draw_noise(self, context: Context, generator: torch.Generator | None, seed: int | None = None) -> Tensor:
        """Return standard normal noise (M, H, A), float32, for the M pairs of `context`.

        With a generator, every pair has its own noise. Without one, all pairs share that of `seed` (by default the
        configuration's), so that a scene gets the same actions in every batch, every time and on every device.
        """
        rows, device = len(context.summary), context.summary.device
        shape = (self.config.horizon, self.config.action.width)
        if generator is not None:
            return torch.randn(rows, *shape, generator=generator, device=generator.device).to(device)
        fixed = torch.Generator().manual_seed(self.config.seed if seed is None else seed)
        return torch.randn(1, *shape, generator=fixed, device="cpu").to(device).expand(rows, *shape)

    def output(self, actions: Tensor, context: Context, inputs: ModelInput) -> ModelOutput:
        """Return the output of chunks (M, H, A) and of the context's predictions, with the axes (B, N) of `inputs`."""
        pairs = tuple(inputs.tokens.shape[:2])
        actions = actions.to(context.summary.dtype).unflatten(0, pairs)
        return replace(
            ModelOutput.from_actions(actions, self.config.action),
            target=context.target.unflatten(0, pairs),
            target_visible=context.target_visible.unflatten(0, pairs),
            attention={name: look.unflatten(0, pairs) for name, look in context.attention.items()},
        )
