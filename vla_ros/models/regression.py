"""A head that says the chunk outright, and the losses that teach it: for networks that draw nothing from noise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.models.contract import ModelOutput, ModelTarget
from vla_ros.models.losses import mean_where_present, side_losses

COLUMNS = 7
"""Columns of an action: position 3, rotation 3, gripper 1."""


class ChunkHead(nn.Module):
    """A vector for scene and sentence to the chunk, the place of the named object, and whether it is there."""

    def __init__(self, inputs: int, hidden: int, horizon: int, beliefs: bool = True) -> None:
        """Build a perceptron with two hidden layers; without `beliefs` it says the chunk alone."""
        super().__init__()
        self.horizon = horizon
        self.trunk = nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())
        self.chunk = nn.Linear(hidden, horizon * COLUMNS)
        self.target = nn.Linear(hidden, 3) if beliefs else None
        self.present = nn.Linear(hidden, 1) if beliefs else None

    def forward(
        self, vector: Tensor, pairs: tuple[int, int], attention: Mapping[str, Tensor] | None = None
    ) -> ModelOutput:
        """Return what `vector` (B * N, inputs) amounts to, with the axes `pairs`; attention is (B * N, h', w')."""
        seen = self.trunk(vector)
        chunk = self.chunk(seen).view(*pairs, self.horizon, COLUMNS)
        return ModelOutput(
            positions=chunk[..., :3],
            rotations=chunk[..., 3:6],
            gripper=chunk[..., 6],
            target=None if self.target is None else self.target(seen).unflatten(0, pairs),
            present=None if self.present is None else self.present(seen).view(pairs),
            attention={name: look.unflatten(0, pairs) for name, look in (attention or {}).items()},
        )


def chunk_losses(said: ModelOutput, wanted: ModelTarget) -> dict[str, Tensor]:
    """Return the losses of the chunk where the object is there, and of the beliefs beside it."""
    there = wanted.present
    position = functional.smooth_l1_loss(said.positions, wanted.positions, reduction="none", beta=0.1)
    gripper = functional.binary_cross_entropy_with_logits(said.gripper, wanted.gripper, reduction="none")
    return {
        "position": mean_where_present(position, there),
        "rotation": 0.2 * mean_where_present((said.rotations - wanted.rotations) ** 2, there),
        "gripper": mean_where_present(gripper, there),
        **side_losses(said, wanted),
    }


def total(parts: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Return the sum of the parts, and each as a number."""
    return torch.stack(list(parts.values())).sum(), {name: float(part.detach()) for name, part in parts.items()}
