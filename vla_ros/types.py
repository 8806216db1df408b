"""Immutable value types shared by all packages, with shapes, units and frames in one place.

Arrays are made read-only on construction, so that a value passed to another thread cannot change.

=====================  ==========================================  ==================================
field                  shape, dtype                                unit, frame
=====================  ==========================================  ==================================
joint_positions        (n,) float64                                rad, order of the robot contract
joint_velocities       (n,) float64                                rad/s
joint_efforts          (n,) float64                                N m, link side, gravity included
gripper_opening        float                                       m between the fingers
position               (3,) float64                                m, robot base frame
quaternion             (4,) float64, (x, y, z, w)                  unit, base from end effector
image                  (height, width, 3) uint8                    RGB
actions                (horizon, width) float64                    as defined by the action space
=====================  ==========================================  ==================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.errors import ChunkError, ObservationError

FloatArray = NDArray[np.float64]
ImageArray = NDArray[np.uint8]


def frozen_array(value: ArrayLike, dtype: Any = np.float64) -> NDArray[Any]:  # noqa: ANN401 (dtype-like)
    """Return a read-only array of `dtype`; read-only data is not copied."""
    array = np.asarray(value, dtype=dtype)
    if array.flags.writeable:
        array = array.copy()
        array.setflags(write=False)
    return array


UNIT_TOLERANCE = 1e-3
"""Maximum deviation of a quaternion's norm from 1 for it to be normalized instead of rejected."""


@dataclass(frozen=True)
class Pose:
    """A rigid transform: `position` (3,) m and unit `quaternion` (4,) as (x, y, z, w)."""

    position: FloatArray
    quaternion: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", frozen_array(self.position))
        object.__setattr__(self, "quaternion", frozen_array(self.quaternion))
        if self.position.shape != (3,) or self.quaternion.shape != (4,):
            raise ObservationError(
                f"a pose needs a position (3,) and a quaternion (4,), got {self.position.shape} and "
                f"{self.quaternion.shape}"
            )


NOWHERE = Pose(np.full(3, np.nan), np.full(4, np.nan))
"""NaN pose: the tool pose of a robot with several arms, which has no single tool."""


@dataclass(frozen=True)
class RobotState:
    """Measured state of joints and gripper at one instant.

    Attributes:
        joint_positions: (n,) rad, in the order of the robot contract.
        joint_velocities: (n,) rad/s.
        gripper_opening: Distance between the fingers, m.
        end_effector: Pose of the tool frame in the base frame.
        stamp: Time of the measurement, s, on the clock of the sensor (simulation time in simulation).
        joint_efforts: (n,) N m, torque that each joint exerts on its link, gravity included; None: not reported.
        gripper_openings: Distance between the fingers of each arm, m, 0 without a gripper; for a single arm it is
            derived from `gripper_opening`.
    """

    joint_positions: FloatArray
    joint_velocities: FloatArray
    gripper_opening: float
    end_effector: Pose
    stamp: float
    joint_efforts: FloatArray | None = None
    gripper_openings: tuple[float, ...] = ()

    @classmethod
    def of_arms(
        cls, joint_positions: FloatArray, joint_velocities: FloatArray, openings: Sequence[float], stamp: float
    ) -> RobotState:
        """Create the state of a robot with several arms, whose joints are ordered arm by arm.

        It has no single gripper or tool: `gripper_opening` and `end_effector` are NaN.
        """
        values = tuple(float(opening) for opening in openings)
        return cls(joint_positions, joint_velocities, np.nan, NOWHERE, stamp, gripper_openings=values)

    def __post_init__(self) -> None:
        if len(self.gripper_openings) < 2:
            object.__setattr__(self, "gripper_openings", (self.gripper_opening,))
        object.__setattr__(self, "joint_positions", frozen_array(self.joint_positions))
        object.__setattr__(self, "joint_velocities", frozen_array(self.joint_velocities))
        if self.joint_positions.ndim != 1 or self.joint_positions.shape != self.joint_velocities.shape:
            raise ObservationError(
                f"joint positions {self.joint_positions.shape} and velocities {self.joint_velocities.shape} "
                "must be vectors of the same length"
            )
        if self.joint_efforts is None:
            return
        object.__setattr__(self, "joint_efforts", frozen_array(self.joint_efforts))
        if self.joint_efforts.shape != self.joint_positions.shape or not np.isfinite(self.joint_efforts).all():
            raise ObservationError(
                f"joint efforts {self.joint_efforts} must be one finite torque a joint, {self.joint_positions.size} of "
                "them; leave them out when the driver reports none"
            )


class InstructionKind(IntEnum):
    """Kind of an instruction."""

    TASK = 0
    STOP = 1


@dataclass(frozen=True)
class Instruction:
    """A validated, normalized instruction. `sequence` increases by one with every accepted instruction."""

    text: str
    sequence: int = 0
    kind: InstructionKind = InstructionKind.TASK
    stamp: float = 0.0


@dataclass(frozen=True)
class Observation:
    """Input of a policy at one instant.

    Attributes:
        images: (height, width, 3) uint8 RGB by camera name.
        state: Proprioception.
        instruction: Current instruction; None before the first one.
        stamp: Oldest stamp among the parts, s.
        sequence: Increases with every observation of one perception process.
        skew: Largest difference between the stamps of the parts, s.
    """

    images: Mapping[str, ImageArray]
    state: RobotState
    instruction: Instruction | None
    stamp: float
    sequence: int = 0
    skew: float = 0.0

    def __post_init__(self) -> None:
        for name, image in self.images.items():
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise ObservationError(
                    f"camera '{name}' gave {image.shape} {image.dtype}, expected (height, width, 3) uint8"
                )


@dataclass(frozen=True)
class ActionChunk:
    """A policy's plan: row i is meant for `observation_stamp + (i + 1) * period`.

    Attributes:
        actions: (horizon, width), finite; columns as defined by the action space.
        period: Time between rows, s.
        observation_stamp: Stamp of the plan's observation, s.
        observation_sequence: Sequence number of that observation.
        instruction_sequence: Sequence number of the instruction that the plan serves.
        specification: Fingerprint of the action space that defines the columns.
        policy: Name of the policy.
        trust: Confidence, 0 (do not move) to 1.
        sequence: Increases with every chunk of one policy process.
    """

    actions: FloatArray
    period: float
    observation_stamp: float
    specification: str
    observation_sequence: int = 0
    instruction_sequence: int = 0
    policy: str = ""
    trust: float = 1.0
    sequence: int = 0

    def __post_init__(self) -> None:
        try:
            actions = frozen_array(self.actions)
        except (TypeError, ValueError) as error:
            raise ChunkError(f"actions are not a numeric table: {error}") from error
        object.__setattr__(self, "actions", actions)
        if actions.ndim != 2 or 0 in actions.shape:
            raise ChunkError(f"actions have shape {actions.shape}, expected (horizon >= 1, width >= 1)")
        if not np.isfinite(actions).all():
            raise ChunkError(f"{int((~np.isfinite(actions)).sum())} of {actions.size} action values are not finite")
        if not (np.isfinite(self.period) and self.period > 0.0):
            raise ChunkError(f"period is {self.period}, expected a positive number of seconds")
        if not 0.0 <= self.trust <= 1.0:
            raise ChunkError(f"trust is {self.trust}, expected 0 to 1")

    @property
    def horizon(self) -> int:
        """Number of rows."""
        return int(self.actions.shape[0])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.actions.shape[1])


class SafetyState(IntEnum):
    """States of the safety layer; the values are those of SafetyStatus.msg."""

    DISARMED = 0
    RUN = 1
    SLOW = 2
    HOLD = 3
    ESTOP = 4


@dataclass(frozen=True)
class SafetyDecision:
    """Decision of one tick of the safety layer.

    Attributes:
        state: State after the tick.
        reason: Label of the reason, e.g. "ok", "chunk_stale", "joint_velocity".
        sentence: Human-readable reason.
        joint_positions: (n,) rad to command; None while disarmed.
        joint_velocities: (n,) rad/s of the commanded motion.
        gripper_opening: Opening to command, m; None while disarmed, and for several arms.
        gripper_openings: Opening to command for each arm's gripper, m; empty while disarmed.
        proposed: Value proposed by the policy, by axis name.
        executed: Commanded value, by axis name.
        speed_scale: Fraction of the allowed speed, 0 to 1.
        observation_age: Age of the command's observation, s; None without one.
    """

    state: SafetyState
    reason: str
    sentence: str
    joint_positions: FloatArray | None = None
    joint_velocities: FloatArray | None = None
    gripper_opening: float | None = None
    proposed: Mapping[str, float] = field(default_factory=dict)
    executed: Mapping[str, float] = field(default_factory=dict)
    speed_scale: float = 1.0
    observation_age: float | None = None
    gripper_openings: tuple[float, ...] = ()
