"""Action group: adjacent columns that command one quantity of one arm, and their convention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.rotations import ROTATION_WIDTH, Rotation, check_euler_order
from vla_ros.errors import ContractError
from vla_ros.types import FloatArray


class Quantity(str, Enum):
    """Commanded quantity; the group is named after the arm and it, as in `left/joint_position`."""

    JOINT_POSITION = "joint_position"
    JOINT_DELTA = "joint_delta"
    JOINT_VELOCITY = "joint_velocity"
    EE_POSE = "ee_pose"
    EE_DELTA = "ee_delta"
    GRIPPER = "gripper"

    @property
    def of_joints(self) -> bool:
        """Whether there is one column per joint."""
        return self.value.startswith("joint_")

    @property
    def of_tool(self) -> bool:
        """Whether the columns are a position and a rotation of the tool frame."""
        return self.value.startswith("ee_")

    @property
    def is_delta(self) -> bool:
        """Whether the columns are differences."""
        return self.value.endswith("_delta")


class Reference(str, Enum):
    """Reference that the columns of a group are measured from."""

    ABSOLUTE = "absolute"  # zero, or the origin of the base frame
    RELATIVE = "relative"  # the observation behind the chunk
    DELTA = "delta"  # the previous row (for the first row: the observation)


TOOL_FRAME = "tool"
"""Frame of a group whose columns use the axes of the tool frame at the reference; every other name is a fixed frame."""


class Unit(str, Enum):
    """Unit of the columns; radians, meters and seconds unless noted."""

    SI = "si"
    DEGREES = "degrees"  # of angles; lengths stay in meters
    NORMALIZED = "normalized"  # -1 is the lower bound, 1 the upper one
    PERCENT = "percent"  # -100 is the lower bound, 100 the upper one


FULL_SCALE = {Unit.NORMALIZED: 1.0, Unit.PERCENT: 100.0}
"""Column value at the upper bound; its negative is the lower bound."""

NO_ROTATION, NO_GRIPPER = Rotation.NONE, GripperConvention.NONE


@dataclass(frozen=True)
class ActionGroup:
    """Adjacent columns of an action.

    Attributes:
        arm: Name of the arm in the robot contract.
        quantity: Commanded quantity.
        reference: Absolute, except for deltas.
        joints: Number of joints of a joint group.
        frame: Frame whose axes a tool group uses: `TOOL_FRAME`, or a fixed frame, which must be the robot's base frame
            when the action is executed.
        rotation: Representation of the rotation columns of a tool group; they follow the three position columns.
        euler_order: Order of Euler angles as in SciPy: "xyz" is extrinsic (fixed axes), "XYZ" intrinsic (moving axes).
        gripper: Convention of the column of a gripper group.
        unit: Unit of the columns.
        low: Lower bounds, one per column, in SI units; required where `unit` is relative to them.
        high: Upper bounds.
    """

    arm: str
    quantity: Quantity
    reference: Reference = Reference.ABSOLUTE
    joints: int = 0
    frame: str = ""
    rotation: Rotation = NO_ROTATION
    euler_order: str = ""
    gripper: GripperConvention = NO_GRIPPER
    unit: Unit = Unit.SI
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (
            ("quantity", Quantity),
            ("reference", Reference),
            ("rotation", Rotation),
            ("gripper", GripperConvention),
            ("unit", Unit),
        ):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                known = ", ".join(item.value for item in kind)
                raise ContractError(f"action group of '{self.arm}': {name} is {value!r}, expected {known}") from None
        object.__setattr__(self, "low", tuple(float(value) for value in self.low))
        object.__setattr__(self, "high", tuple(float(value) for value in self.high))
        self._check_kind()
        self._check_bounds()

    @property
    def name(self) -> str:
        """Name of the group, <arm>/<quantity>."""
        return f"{self.arm}/{self.quantity.value}"

    @property
    def width(self) -> int:
        """Number of columns."""
        if self.quantity is Quantity.GRIPPER:
            return 1
        return self.joints if self.quantity.of_joints else 3 + ROTATION_WIDTH[self.rotation]

    def to_si(self, columns: FloatArray) -> FloatArray:
        """Convert columns (..., width) to rad, m, rad/s; grippers, quaternions and matrices are unchanged."""
        scale, offset = self._affine()
        return np.asarray(columns, dtype=np.float64) * scale + offset

    def from_si(self, values: FloatArray) -> FloatArray:
        """Convert SI values to columns: the inverse of `to_si`."""
        scale, offset = self._affine()
        return (np.asarray(values, dtype=np.float64) - offset) / scale

    def _affine(self) -> tuple[FloatArray, FloatArray]:
        scale, offset = np.ones(self.width), np.zeros(self.width)
        if self.unit is Unit.DEGREES:
            scale[0 if self.quantity.of_joints else 3 :] = np.pi / 180.0
        elif self.unit in FULL_SCALE:
            low, high = np.array(self.low), np.array(self.high)
            scale, offset = (high - low) / (2.0 * FULL_SCALE[self.unit]), (high + low) / 2.0
        return scale, offset

    def _check_kind(self) -> None:
        if not self.arm or "/" in self.arm:
            raise ContractError(f"action group: the arm's name is {self.arm!r}, expected letters without '/'")
        quantity, is_gripper = self.quantity, self.quantity is Quantity.GRIPPER
        wrong = []
        if quantity.is_delta is (self.reference is Reference.ABSOLUTE):
            wrong.append(
                f"reference is {self.reference.value}, expected "
                + ("relative or delta" if quantity.is_delta else "absolute")
            )
        if quantity.of_joints is not (self.joints > 0):
            wrong.append(f"joints is {self.joints}, expected " + ("at least 1" if quantity.of_joints else "none"))
        if is_gripper is (self.gripper is NO_GRIPPER):
            wrong.append(f"gripper is {self.gripper.value}, expected " + ("a convention" if is_gripper else "none"))
        if quantity.of_tool is not bool(self.frame) or (self.rotation is not NO_ROTATION and not quantity.of_tool):
            wrong.append("frame and rotation belong to a tool group, and a frame is needed there")
        if quantity is Quantity.EE_POSE and self.frame == TOOL_FRAME:
            wrong.append("frame is tool, expected a fixed one: an absolute pose has no other")
        if (self.rotation is Rotation.EULER) is not bool(self.euler_order):
            wrong.append("euler_order belongs to rotation 'euler', and is needed there")
        if is_gripper and self.unit is not Unit.SI:
            wrong.append(f"unit is {self.unit.value}: the convention of a gripper has its unit")
        if wrong:
            raise ContractError(f"action group '{self.name}': " + "; ".join(wrong))
        if self.euler_order:
            check_euler_order(self.euler_order)
        angles = quantity.of_joints or self.rotation in (Rotation.NONE, Rotation.ROTATION_VECTOR, Rotation.EULER)
        if self.unit is not Unit.SI and not angles:
            raise ContractError(f"action group '{self.name}': unit {self.unit.value} fits no {self.rotation.value}")

    def _check_bounds(self) -> None:
        low, high = np.array(self.low), np.array(self.high)
        if self.unit in FULL_SCALE and not low.size:
            raise ContractError(f"action group '{self.name}': unit {self.unit.value} needs low and high, in SI units")
        if low.size or high.size:
            if low.size != self.width or high.size != self.width:
                raise ContractError(
                    f"action group '{self.name}': {low.size} low and {high.size} high bounds, expected {self.width}"
                )
            if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
                raise ContractError(
                    f"action group '{self.name}': bounds {self.low} to {self.high}, expected finite, low < high"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are not at their defaults, as written to YAML and to a checkpoint."""
        values: dict[str, Any] = {"group": self.name}
        if self.quantity.is_delta:
            values["reference"] = self.reference.value
        if self.quantity.of_joints:
            values["joints"] = self.joints
        if self.quantity.of_tool:
            values |= {"frame": self.frame, "rotation": self.rotation.value}
        if self.euler_order:
            values["euler_order"] = self.euler_order
        if self.quantity is Quantity.GRIPPER:
            values["gripper"] = self.gripper.value
        if self.unit is not Unit.SI:
            values["unit"] = self.unit.value
        if self.low:
            values |= {"low": list(self.low), "high": list(self.high)}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ActionGroup:
        """Create from the output of `to_dict`.

        Raises:
            ContractError: naming the group, and the fields that are missing, unknown or invalid.
        """
        name = values.get("group")
        arm, slash, quantity = str(name).rpartition("/")
        known = {item.value for item in Quantity}
        if not slash or quantity not in known:
            raise ContractError(f"action group {name!r}: expected <arm>/<quantity>, with one of {sorted(known)}")
        kind = Quantity(quantity)
        needed = {"reference"} if kind.is_delta else set()
        needed |= {"joints"} if kind.of_joints else {"gripper"} if kind is Quantity.GRIPPER else {"frame", "rotation"}
        allowed = needed | {"unit", "low", "high"} | ({"euler_order"} if kind.of_tool else set())
        given = set(values) - {"group"}
        if needed - given or given - allowed:
            raise ContractError(
                f"action group '{name}': missing {sorted(needed - given)}, unknown {sorted(given - allowed)}; "
                f"expected {sorted(needed)}, and possibly {sorted(allowed - needed)}"
            )
        try:
            joints = values.get("joints", 0)
            if isinstance(joints, bool) or int(joints) != joints:
                raise ValueError(f"joints is {joints!r}, expected a whole number")
            rest = {key: value for key, value in values.items() if key not in ("group", "joints")}
            if not isinstance(rest.get("frame", ""), str):
                raise ValueError(f"frame is {rest['frame']!r}, expected the name of a frame")
            return cls(arm=arm, quantity=kind, joints=int(joints), **rest)
        except (TypeError, ValueError, OverflowError) as error:
            raise ContractError(f"action group '{name}': {error}") from error
