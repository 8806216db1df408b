"""What goes into every network and what comes out.

Shapes: B scenes, N sentences about each of them, H rows a chunk, S numbers of proprioception, T words, C continuous and
G binary columns of an action (see `columns`).

==================  =======================  ==========================================================
field               shape, dtype             meaning
==================  =======================  ==========================================================
images[camera]      (B, 3, h, w) float       RGB, 0 to 1
state               (B, S) float             proprioception, normalised
tokens              (B, N, T) long           words; 0 is padding
continuous          (B, N, H, C) float       positions and rotations of tools, joints, openings; normalized
binary              (B, N, H, G) float       grippers of two states: 1 on, 0 off
present             (B, N) float             1 when the named object is in the scene, else 0
target              (B, N, 3) float          where the named object is, normalised
pixels[camera]      (B, N, 2) float          where it is in the image, 0 to 1; NaN out of sight
goal                (B, N, 3) float          where it should go (into, onto), normalised
goal_pixels[camera] (B, N, 2) float          where that is in the image; NaN out of sight or when there is no goal
concepts[name]      (B, N) long              what the sentence means, by parts; a network's own table says which
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
    """What a network sees; see the table of this module."""

    images: Mapping[str, Tensor]
    state: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class ModelTarget:
    """What it should have said; see the table of this module. What follows `present` only some networks are taught."""

    continuous: Tensor
    binary: Tensor
    present: Tensor
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
    """What it says.

    Attributes:
        continuous: (B, N, H, C), normalized.
        binary: (B, N, H, G), logits of "on".
        target: (B, N, 3) where it believes the named object is, normalised; None where it does not say.
        present: (B, N) logits that the named object is there; None where it does not say.
        attention: Camera to (B, N, h', w') weights that sum to 1: where it looked for the object.
    """

    continuous: Tensor
    binary: Tensor
    target: Tensor | None = None
    present: Tensor | None = None
    attention: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_actions(cls, actions: Tensor, columns: ActionColumns) -> ModelOutput:
        """Split (B, N, H, C + G) as `ModelTarget.actions` joins it; the sign of a binary column becomes its logit."""
        return cls(actions[..., : columns.continuous], 4.0 * actions[..., columns.continuous :])


def check_width(name: str, tensor: Tensor, width: int) -> None:
    """Raise when the last axis of `tensor` is not `width` wide."""
    if tensor.shape[-1] != width:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {width} in the last axis")
