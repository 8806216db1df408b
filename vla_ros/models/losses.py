"""Parts of the loss that networks share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from vla_ros.models.batch import ModelOutput, ModelTarget


def mean_where_present(values: Tensor, present: Tensor) -> Tensor:
    """Return the mean of `values` (B, N, ...) over the sentences whose object is there, `present` (B, N); else 0."""
    values = values.flatten(2).mean(dim=-1) if values.ndim > 2 else values
    return (values * present).sum() / present.sum().clamp(min=1.0)


def side_losses(said: ModelOutput, wanted: ModelTarget) -> dict[str, Tensor]:
    """Return the losses of the heads beside the actions: is the object there, and where is it."""
    parts = {}
    if said.present is not None:
        parts["present"] = 0.2 * functional.binary_cross_entropy_with_logits(said.present, wanted.present)
    if said.target is not None and wanted.target is not None:
        distance = functional.smooth_l1_loss(said.target, wanted.target, reduction="none", beta=0.1)
        parts["target"] = mean_where_present(distance, wanted.present)
    return parts


def chunk_losses(said: ModelOutput, wanted: ModelTarget) -> dict[str, Tensor]:
    """Return the losses of a chunk that is said outright, where the object is there, and of the beliefs beside it."""
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
