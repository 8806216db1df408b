"""What the columns of an action chunk mean: frame, delta or absolute, rotation form, gripper convention, rate.

Two systems that disagree on any of these move a robot wrongly without any error, so the specification travels with
the robot contract, the data and the checkpoint, and its fingerprint with every chunk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from vla_ros.errors import ContractError


class Reference(str, Enum):
    """What a position or rotation column is measured from."""

    ABSOLUTE = "absolute"  # in the base frame
    RELATIVE = "relative"  # from the end-effector pose of the observation, axes of the base frame
    DELTA = "delta"  # from the row before (the first row: from the pose of the observation)


class Rotation(str, Enum):
    """How a rotation is written."""

    NONE = "none"  # no columns: the orientation of the observation is kept
    ROTATION_VECTOR = "rotation_vector"  # 3 columns, rad, axis times angle
    QUATERNION = "quaternion"  # 4 columns, (x, y, z, w), unit
    SIX_D = "six_d"  # 6 columns, the first two columns of the matrix (Zhou et al. 2019)


class GripperConvention(str, Enum):
    """What the gripper column says."""

    NONE = "none"
    OPENING = "opening"  # m between the fingers
    OPEN_IS_ONE = "open_is_one"  # 0 closed to 1 open
    CLOSED_IS_ONE = "closed_is_one"  # 0 open to 1 closed


ROTATION_WIDTH = {Rotation.NONE: 0, Rotation.ROTATION_VECTOR: 3, Rotation.QUATERNION: 4, Rotation.SIX_D: 6}


@dataclass(frozen=True)
class ActionSpecification:
    """The convention of one action space.

    Columns stand in this order: position (3, m), rotation (0, 3, 4 or 6), gripper (0 or 1).

    Attributes:
        frame: Frame whose axes the columns use; today the robot's base frame alone.
        reference: What position and rotation are measured from.
        rotation: Form of the rotation columns.
        gripper: Meaning of the gripper column.
        rate_hz: Rows a second.
        horizon: Rows a chunk.
    """

    frame: str
    reference: Reference
    rotation: Rotation
    gripper: GripperConvention
    rate_hz: float
    horizon: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", Reference(self.reference))
        object.__setattr__(self, "rotation", Rotation(self.rotation))
        object.__setattr__(self, "gripper", GripperConvention(self.gripper))
        if not 0.0 < self.rate_hz <= 1000.0:
            raise ContractError(f"action rate_hz is {self.rate_hz}, expected 0 < rate_hz <= 1000")
        if not 1 <= self.horizon <= 1024:
            raise ContractError(f"action horizon is {self.horizon}, expected 1 to 1024")

    @property
    def width(self) -> int:
        """Number of columns."""
        return 3 + ROTATION_WIDTH[self.rotation] + (self.gripper is not GripperConvention.NONE)

    @property
    def period(self) -> float:
        """Seconds between rows."""
        return 1.0 / self.rate_hz

    @property
    def rotation_columns(self) -> slice:
        """Where the rotation stands."""
        return slice(3, 3 + ROTATION_WIDTH[self.rotation])

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that differ when any line of the convention differs."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they stand in YAML and in a checkpoint."""
        return {k: (v.value if isinstance(v, Enum) else v) for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ActionSpecification:
        """Read the convention from plain values.

        Raises:
            ContractError: naming missing, unknown or invalid lines.
        """
        known = set(cls.__dataclass_fields__)
        missing, unknown = known - set(values), set(values) - known
        if missing or unknown:
            raise ContractError(
                f"action specification: missing {sorted(missing)}, unknown {sorted(unknown)}; expected {sorted(known)}"
            )
        try:
            if not float(values["horizon"]).is_integer():
                raise ValueError(f"horizon is {values['horizon']}, expected a whole number")
            return cls(
                frame=str(values["frame"]),
                reference=values["reference"],
                rotation=values["rotation"],
                gripper=values["gripper"],
                rate_hz=float(values["rate_hz"]),
                horizon=int(values["horizon"]),
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise ContractError(f"action specification: {error}") from error

    def differences(self, other: ActionSpecification) -> list[str]:
        """Say line by line where `other` differs, for the report of a checkpoint that does not fit."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{key}: {mine[key]!r} here, {theirs[key]!r} there" for key in mine if mine[key] != theirs[key]]
