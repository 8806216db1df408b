"""Loss terms shared by the networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from vla_ros.models.batch import ModelOutput, ModelTarget
from vla_ros.models.columns import ActionColumns, take


def mean_where_present(values: Tensor, visible: Tensor) -> Tensor:
    """Average `values` (B, N, ...) over instructions whose object is there, `visible` (B, N); 0 without any."""
    values = values.flatten(2).mean(dim=-1) if values.ndim > 2 else values
    return (values * visible).sum() / visible.sum().clamp(min=1.0)


def side_losses(output: ModelOutput, target: ModelTarget) -> dict[str, Tensor]:
    """Return the losses of the auxiliary heads: presence and position of the object."""
    parts = {}
    if output.target_visible is not None:
        presence = functional.binary_cross_entropy_with_logits(output.target_visible, target.target_visible)
        parts["present"] = 0.2 * presence
    if output.target is not None and target.target is not None:
        distance = functional.smooth_l1_loss(output.target, target.target, reduction="none", beta=0.1)
        parts["target"] = mean_where_present(distance, target.target_visible)
    return parts


def action_losses(
    output: ModelOutput, target: ModelTarget, columns: ActionColumns, rotation: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return the losses of the existing action columns, over instructions whose object is present.

    Args:
        output: The output.
        target: The target.
        columns: Columns of the action.
        rotation: Elementwise loss of rotations, from output and target.
    """
    there, parts = target.target_visible, {}
    if columns.others:
        position = functional.smooth_l1_loss(
            take(output.continuous, columns.others), take(target.continuous, columns.others), reduction="none", beta=0.1
        )
        parts["position"] = mean_where_present(position, there)
    if columns.rotations:
        turned = rotation(take(output.continuous, columns.rotations), take(target.continuous, columns.rotations))
        parts["rotation"] = mean_where_present(turned, there)
    if columns.binary:
        gripper = functional.binary_cross_entropy_with_logits(output.binary, target.binary, reduction="none")
        parts["gripper"] = mean_where_present(gripper, there)
    return parts


def squared_rotation(output: Tensor, target: Tensor) -> Tensor:
    """Return a fifth of the squared error, elementwise."""
    return 0.2 * (output - target) ** 2


def smooth_rotation(output: Tensor, target: Tensor) -> Tensor:
    """Return the smooth L1 error, elementwise."""
    return functional.smooth_l1_loss(output, target, reduction="none", beta=0.1)


def chunk_losses(output: ModelOutput, target: ModelTarget, columns: ActionColumns) -> dict[str, Tensor]:
    """Return the losses of a directly regressed chunk, where the object is present, and of the auxiliary heads."""
    return {**action_losses(output, target, columns, squared_rotation), **side_losses(output, target)}


def total(parts: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Return the sum of the parts, and each as a number."""
    return torch.stack(list(parts.values())).sum(), {name: float(part.detach()) for name, part in parts.items()}
