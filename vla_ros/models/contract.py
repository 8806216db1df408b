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
present             (B, N) float             1 when the named object is in the scene, else 0
target              (B, N, 3) float          where the named object is, normalised
pixels[camera]      (B, N, 2) float          where it is in the image, 0 to 1; NaN out of sight
==================  =======================  ==========================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    """What it should have said; see the table of this module. What follows `present` only some networks are taught."""

    positions: Tensor
    rotations: Tensor
    gripper: Tensor
    present: Tensor
    target: Tensor | None = None
    pixels: Mapping[str, Tensor] = field(default_factory=dict)

    def actions(self) -> Tensor:
        """Return (B, N, H, 7): positions, rotations, and the gripper as -1 closed to 1 open."""
        return torch.cat([self.positions, self.rotations, 2.0 * self.gripper[..., None] - 1.0], dim=-1)


@dataclass(frozen=True)
class ModelOutput:
    """What it says: `positions` and `rotations` (B, N, H, 3), `gripper` (B, N, H) logits of "open".

    Attributes:
        positions: Normalised.
        rotations: Normalised.
        gripper: Logits.
        target: (B, N, 3) where it believes the named object is, normalised; None where it does not say.
        present: (B, N) logits that the named object is there; None where it does not say.
        attention: Camera to (B, N, h', w') weights that sum to 1: where it looked for the object.
    """

    positions: Tensor
    rotations: Tensor
    gripper: Tensor
    target: Tensor | None = None
    present: Tensor | None = None
    attention: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_actions(cls, actions: Tensor, attention: Mapping[str, Tensor] | None = None) -> ModelOutput:
        """Split (B, N, H, 7) as `ModelTarget.actions` joins it; the gripper's sign becomes its logit."""
        return cls(actions[..., :3], actions[..., 3:6], 4.0 * actions[..., 6], attention=attention or {})


class VlaModel(nn.Module, ABC):
    """A network that maps images, proprioception and words to an action chunk.

    It never moves itself or its inputs to a device and never changes their precision: that is the caller's choice.
    """

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> VlaModel:
        """Build from plain values, as they stand in a checkpoint, with random weights; unknown values are errors.

        Every network takes at least `cameras` (name to (height, width)), `vocabulary`, `state_width` and `horizon`.
        """

    @abstractmethod
    def act(self, given: ModelInput) -> ModelOutput:
        """Predict chunks; shapes as in the table of this module."""

    @abstractmethod
    def compute_loss(self, given: ModelInput, wanted: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the scalar loss and its parts by name; rows whose `present` is 0 do not count for actions."""

    @property
    def parameter_count(self) -> int:
        """How many numbers training can change."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def check_width(name: str, tensor: Tensor, width: int) -> None:
    """Raise when the last axis of `tensor` is not `width` wide."""
    if tensor.shape[-1] != width:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {width} in the last axis")
