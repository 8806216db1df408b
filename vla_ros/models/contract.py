"""What every network offers, so that training and the policy node need not know which one they hold.

Shapes: B scenes, N sentences about each of them, H rows a chunk, S numbers of proprioception, T words.

==================  =======================  ==========================================================
field               shape, dtype             meaning
==================  =======================  ==========================================================
images[camera]      (B, 3, h, w) float       RGB, 0 to 1
state               (B, S) float             proprioception, normalised
tokens              (B, N, T) long           words; 0 is padding
positions           (B, N, H, 3) float       position columns, normalised
rotations           (B, N, H, 3) float       rotation columns, normalised
gripper             (B, N, H) float          1 open, 0 closed
target              (B, N, 3) float          where the named object is, normalised
pixels[camera]      (B, N, 2) float          where it is in the image, 0 to 1; NaN out of sight
present             (B, N) float             1 when the named object is in the scene, else 0
==================  =======================  ==========================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelInput:
    """What a network sees; see the table of this module."""

    images: Mapping[str, Tensor]
    state: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class ModelTarget:
    """What it should have said; see the table of this module."""

    positions: Tensor
    rotations: Tensor
    gripper: Tensor
    target: Tensor
    pixels: Mapping[str, Tensor]
    present: Tensor


@dataclass(frozen=True)
class ModelOutput:
    """What it says: `positions` and `rotations` (B, N, H, 3), `gripper` (B, N, H) logits of "open".

    Attributes:
        positions: Normalised.
        rotations: Normalised.
        gripper: Logits.
        target: (B, N, 3) where it believes the named object is, normalised.
        present: (B, N) logits that the named object is there.
        attention: Camera to (B, N, h', w') weights that sum to 1: where it looked for the object.
    """

    positions: Tensor
    rotations: Tensor
    gripper: Tensor
    target: Tensor
    present: Tensor
    attention: Mapping[str, Tensor]


class VlaModel(nn.Module, ABC):
    """A network that maps images, proprioception and words to an action chunk."""

    @abstractmethod
    def forward(self, given: ModelInput) -> ModelOutput:
        """Predict; shapes as in the table of this module."""

    @abstractmethod
    def compute_loss(self, given: ModelInput, wanted: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the scalar loss and its parts by name."""

    @property
    def parameter_count(self) -> int:
        """How many numbers training can change."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def check_width(name: str, tensor: Tensor, width: int) -> None:
    """Raise when the last axis of `tensor` is not `width` wide."""
    if tensor.shape[-1] != width:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {width} in the last axis")


@torch.no_grad()
def all_finite(output: ModelOutput) -> bool:
    """Whether every predicted number is finite."""
    return all(bool(torch.isfinite(t).all()) for t in (output.positions, output.rotations, output.gripper))
