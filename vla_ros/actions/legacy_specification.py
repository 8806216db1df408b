"""Reader for the one-arm action specification of contracts, datasets and checkpoints before 0.5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import ActionGroup, Quantity, Reference
from vla_ros.actions.rotations import Rotation
from vla_ros.errors import ContractError

LEGACY_LINES = ("frame", "reference", "rotation", "gripper", "rate_hz", "horizon")
"""Fields of the legacy specification; `frame` is the name of the base frame."""

ONLY_ARM = "arm"
"""Name of the arm in a contract of one arm."""


def groups_of_specification(values: Mapping[str, Any]) -> tuple[ActionGroup, ...]:
    """Return the action groups for the fields `reference`, `rotation` and `gripper`.

    Raises:
        ContractError: naming the invalid field.
    """
    try:
        reference, rotation = Reference(values["reference"]), Rotation(values["rotation"])
        gripper = GripperConvention(values["gripper"])
    except ValueError as error:
        raise ContractError(f"action specification: {error}") from error
    quantity = Quantity.EE_POSE if reference is Reference.ABSOLUTE else Quantity.EE_DELTA
    groups = [ActionGroup(ONLY_ARM, quantity, reference, frame=str(values["frame"]), rotation=rotation)]
    if gripper is not GripperConvention.NONE:
        groups.append(ActionGroup(ONLY_ARM, Quantity.GRIPPER, gripper=gripper))
    return tuple(groups)
