"""Inputs, targets and outputs of every network.

Shapes: B scenes, N instructions for each, H rows per chunk, S numbers of proprioception, T words, C continuous and
G binary columns of an action (see `columns`).

==================  =======================  ==========================================================
field               shape, dtype             meaning
==================  =======================  ==========================================================
images[camera]      (B, 3, h, w) float       RGB, 0 to 1
state               (B, S) float             proprioception, normalized
tokens              (B, N, T) long           words of the instruction; 0 is padding
continuous          (B, N, H, C) float       positions and rotations of tools, joints, openings; normalized
binary              (B, N, H, G) float       two-state grippers: 1 on, 0 off
target_visible      (B, N) float             1 when the named object is in the scene, else 0
target              (B, N, 3) float          position of the named object, normalized
pixels[camera]      (B, N, 2) float          its position in the image, 0 to 1; NaN when not visible
goal                (B, N, 3) float          position where it should go (into, onto), normalized
goal_pixels[camera] (B, N, 2) float          the goal in the image; NaN when not visible or when there is no goal
concepts[name]      (B, N) long              parts of the instruction's meaning, as in the network's own table
==================  =======================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vla_ros.models.columns import ActionColumns


@dataclass(frozen=True)
class ModelInput:
    """Input of a network; see this module's table."""

    images: Mapping[str, Tensor]
    state: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class ModelTarget:
    """Target of a network; see this module's table. Fields after `target_visible` are used by some networks only."""

    continuous: Tensor
    binary: Tensor
    target_visible: Tensor
    target: Tensor | None = None
    pixels: Mapping[str, Tensor] = field(default_factory=dict)
    goal: Tensor | None = None
    goal_pixels: Mapping[str, Tensor] = field(default_factory=dict)
    concepts: Mapping[str, Tensor] = field(default_factory=dict)

    def actions(self) -> Tensor:
        """Return (B, N, H, C + G): the continuous columns, and the binary ones as -1 off to 1 on."""
        return torch.cat([self.continuous, 2.0 * self.binary - 1.0], dim=-1)


@dataclass(frozen=True)
class ModelOutput:
    """Output of a network.

    Attributes:
        continuous: (B, N, H, C), normalized.
        binary: (B, N, H, G), logits of "on".
        target: (B, N, 3) predicted position of the named object, normalized; None if it is not predicted.
        target_visible: (B, N) logits that the named object is there; None if not predicted.
        attention: Camera to (B, N, h', w') weights over the image for the named object, which sum to 1.
    """

    continuous: Tensor
    binary: Tensor
    target: Tensor | None = None
    target_visible: Tensor | None = None
    attention: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_actions(cls, actions: Tensor, columns: ActionColumns) -> ModelOutput:
        """Split (B, N, H, C + G), inverting `ModelTarget.actions`; the sign of a binary column becomes its logit."""
        return cls(actions[..., : columns.continuous], 4.0 * actions[..., columns.continuous :])


def check_width(name: str, tensor: Tensor, width: int) -> None:
    """Raise unless the last axis of `tensor` has `width`."""
    if tensor.shape[-1] != width:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {width} in the last axis")
