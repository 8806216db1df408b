"""Action space: the column groups of an action chunk, its row rate and its length.

Two systems that disagree on any of these move a robot wrongly without any error, so the action space is stored with the
robot contract, the data and the checkpoint, and every chunk carries its fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import TOOL_FRAME, ActionGroup, Quantity, Reference
from vla_ros.actions.legacy_specification import LEGACY_LINES, groups_of_specification
from vla_ros.actions.rotations import Rotation
from vla_ros.errors import ContractError

HIGHEST_RATE, MAX_HORIZON = 1000.0, 1024
"""Maximum row rate, Hz, and maximum number of rows per chunk."""


@dataclass(frozen=True)
class ActionSpace:
    """Named groups of action columns, in order.

    Every arm has exactly one group that moves it, and one for its gripper if that is commanded.

    Attributes:
        groups: Groups in column order.
        rate_hz: Rows per second.
        horizon: Rows per chunk.
    """

    groups: tuple[ActionGroup, ...]
    rate_hz: float
    horizon: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(self.groups))
        if not 0.0 < self.rate_hz <= HIGHEST_RATE:
            raise ContractError(f"action rate_hz is {self.rate_hz}, expected 0 < rate_hz <= {HIGHEST_RATE:.0f}")
        if not 1 <= self.horizon <= MAX_HORIZON:
            raise ContractError(f"action horizon is {self.horizon}, expected 1 to {MAX_HORIZON}")
        if not self.groups:
            raise ContractError("an action space needs at least one group")
        for arm in self.arms:
            moving = [group.name for group in self.of_arm(arm) if group.quantity is not Quantity.GRIPPER]
            grippers = len(self.of_arm(arm)) - len(moving)
            if len(moving) != 1 or grippers > 1:
                raise ContractError(
                    f"action groups of arm '{arm}': {moving} move it and {grippers} command its gripper; "
                    "expected one that moves it and at most one for the gripper"
                )

    @classmethod
    def of_one_tool(
        cls,
        frame: str,
        reference: Reference,
        rotation: Rotation,
        gripper: GripperConvention,
        rate_hz: float,
        horizon: int,
    ) -> ActionSpace:
        """Return the space of one arm whose tool is commanded; see `ActionGroup` for the arguments."""
        values = {"frame": frame, "reference": reference, "rotation": rotation, "gripper": gripper}
        return cls(groups_of_specification(values), rate_hz, horizon)

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, in the order of their first columns."""
        return tuple(dict.fromkeys(group.arm for group in self.groups))

    def of_arm(self, arm: str) -> tuple[ActionGroup, ...]:
        """Return the groups of one arm."""
        return tuple(group for group in self.groups if group.arm == arm)

    def motion(self, arm: str) -> ActionGroup:
        """Return the group that moves an arm.

        Raises:
            ContractError: for an arm that is not in the space.
        """
        for group in self.of_arm(arm):
            if group.quantity is not Quantity.GRIPPER:
                return group
        raise ContractError(f"no action group moves arm '{arm}'; the arms are {list(self.arms)}")

    def gripper(self, arm: str) -> ActionGroup | None:
        """Return the group of an arm's gripper; None if it is not commanded."""
        return next((group for group in self.of_arm(arm) if group.quantity is Quantity.GRIPPER), None)

    @property
    def only_motion(self) -> ActionGroup:
        """Group that moves the arm, in a space of one arm.

        Raises:
            ContractError: when there are several arms.
        """
        if len(self.arms) != 1:
            raise ContractError(f"the action space has arms {list(self.arms)}, expected one")
        return self.motion(self.arms[0])

    @property
    def only_gripper(self) -> ActionGroup | None:
        """Group of the gripper, in a space of one arm; None if it is not commanded."""
        return self.gripper(self.only_motion.arm)

    @property
    def of_joints(self) -> bool:
        """Whether every arm is commanded in joint space."""
        return all(self.motion(arm).quantity.of_joints for arm in self.arms)

    @property
    def in_meters(self) -> bool:
        """Whether a gripper column is in meters, and so can be interpreted without the gripper's maximum opening."""
        return any(group.gripper is GripperConvention.OPENING for group in self.groups)

    @property
    def columns(self) -> dict[str, slice]:
        """Columns of each group, by group name."""
        found, start = {}, 0
        for group in self.groups:
            found[group.name] = slice(start, start + group.width)
            start += group.width
        return found

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(group.width for group in self.groups)

    @property
    def period(self) -> float:
        """Time between rows, s."""
        return 1.0 / self.rate_hz

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that differ if any field of the space differs."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def in_frame(self, frame: str) -> ActionSpace:
        """Return the space with the fixed frame of its tool groups renamed to `frame`."""
        groups = (
            replace(group, frame=frame) if group.frame not in ("", TOOL_FRAME) else group for group in self.groups
        )
        return replace(self, groups=tuple(groups))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as stored in YAML and in checkpoints."""
        return {
            "groups": [group.to_dict() for group in self.groups],
            "rate_hz": float(self.rate_hz),
            "horizon": int(self.horizon),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ActionSpace:
        """Read plain values, including those of the legacy one-arm specification.

        Raises:
            ContractError: naming missing, unknown or invalid fields.
        """
        legacy = "groups" not in values
        known = set(LEGACY_LINES) if legacy else {"groups", "rate_hz", "horizon"}
        missing, unknown = known - set(values), set(values) - known
        if missing or unknown:
            raise ContractError(
                f"action space: missing {sorted(missing)}, unknown {sorted(unknown)}; expected {sorted(known)}"
            )
        try:
            if not float(values["horizon"]).is_integer():
                raise ValueError(f"horizon is {values['horizon']}, expected a whole number")
            rate, horizon = float(values["rate_hz"]), int(values["horizon"])
        except (TypeError, ValueError, OverflowError) as error:
            raise ContractError(f"action space: {error}") from error
        if legacy:
            return cls(groups_of_specification(values), rate, horizon)
        groups = values["groups"]
        if not isinstance(groups, list) or not all(isinstance(group, Mapping) for group in groups):
            raise ContractError(f"action space: groups is {groups!r}, expected a list of mappings")
        return cls(tuple(ActionGroup.from_dict(group) for group in groups), rate, horizon)

    def differences(self, other: ActionSpace) -> list[str]:
        """Return one line per difference from `other`, for the report on an incompatible checkpoint."""
        mine, theirs = _lines(self), _lines(other)
        return [
            f"{key}: {mine.get(key)!r} here, {theirs.get(key)!r} there"
            for key in {**mine, **theirs}
            if mine.get(key) != theirs.get(key)
        ]


def _lines(space: ActionSpace) -> dict[str, Any]:
    lines: dict[str, Any] = {"groups": [group.name for group in space.groups]}
    for group in space.groups:
        lines |= {f"{group.name}.{key}": value for key, value in group.to_dict().items() if key != "group"}
    return lines | {"rate_hz": space.rate_hz, "horizon": space.horizon}
