"""Validation of joint state messages: one valid message becomes a reading in the contract's joint order.

Independent of ROS. A driver may report joints in any order, and additional ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.robot.contract import FIXED_TOLERANCE, RobotContract
from vla_ros.types import FloatArray, Pose, RobotState

LARGEST_VALUE = 1e3
"""Largest plausible joint position or velocity, rad or rad/s; also rejects 1e300, which is finite."""

LARGEST_EFFORT = 1e5
"""Largest torque that counts as reported, N m."""


class JointFault(Enum):
    """Kinds of invalid joint reports."""

    JOINTS = "joints are missing or named twice, or there is not one value for each"
    NOT_FINITE = "a value is not finite"
    OUT_OF_RANGE = "a value is none that this robot can have"
    FIXED_JOINT = "a joint that the contract fixes is elsewhere"
    SOURCE = "a source is silent, or reports a joint of another one"


class JointReportError(ObservationError):
    """A joint report that cannot be used.

    Attributes:
        fault: Kind of fault.
    """

    def __init__(self, fault: JointFault, sentence: str) -> None:
        """Create with a sentence: what was received, what was expected, and what to do."""
        super().__init__(sentence)
        self.fault = fault


@dataclass(frozen=True)
class JointReport:
    """One message, as received.

    Attributes:
        names: Names of the k joints.
        positions: Joint positions (k,), rad or m.
        velocities: Joint velocities (k,), rad/s or m/s; empty where the driver reports none.
        stamp: Time of the measurement, s.
        efforts: Joint efforts (k,), N m or N; empty where the driver reports none.
    """

    names: Sequence[str]
    positions: Sequence[float]
    velocities: Sequence[float]
    stamp: float
    efforts: Sequence[float] = ()


@dataclass(frozen=True)
class JointReading:
    """A valid measurement of the robot's joints, in the contract's order.

    Attributes:
        positions: Joint positions (n,), rad.
        velocities: Joint velocities (n,), rad/s.
        openings: Opening of each arm's gripper, m; 0 where there is none.
        stamp: Time of the measurement, s.
        received: Time of receipt, s, steady clock; -inf where unknown.
        efforts: Torques of the joints (n,), N m, or None.
    """

    positions: FloatArray
    velocities: FloatArray
    openings: tuple[float, ...]
    stamp: float
    received: float = -np.inf
    efforts: FloatArray | None = None

    def to_state(self, forward: Callable[[FloatArray], Pose]) -> RobotState:
        """Return the robot state; `forward` maps joint positions (n,) rad to the tool pose.

        The state of several arms has no tool pose, and `forward` is not called.
        """
        if len(self.openings) > 1:
            return RobotState.of_arms(self.positions, self.velocities, self.openings, self.stamp)
        pose = forward(self.positions)
        opening = self.openings[0]
        return RobotState(self.positions, self.velocities, opening, pose, self.stamp, joint_efforts=self.efforts)

    @property
    def opening(self) -> float:
        """Opening of the gripper of a one-arm robot, m; NaN with several arms."""
        return self.openings[0] if len(self.openings) == 1 else float("nan")


def read_joint_report(report: JointReport, contract: RobotContract) -> JointReading:
    """Return the measurement of the arm and the gripper in one report, including velocities.

    Raises:
        JointReportError: as for `measure` and `complete_reading`; also when a velocity is missing.
    """
    n = contract.joints.count
    positions, velocities = measure(report, (*contract.joints.names, *contract.finger_names), contract)
    if not len(report.velocities):
        raise JointReportError(JointFault.JOINTS, _ragged(report))
    _require_numbers(velocities[:n])
    reading = complete_reading(positions, velocities[:n], report.stamp, contract)
    return replace(reading, efforts=efforts_of(report, contract))


def efforts_of(report: JointReport, contract: RobotContract) -> FloatArray | None:
    """Return the torques of the arm's joints, (n,) N m; None when one is missing or not finite.

    A driver may omit the effort or fill it with NaN: that is not a fault, contact is then detected by position alone.
    """
    place = {name: index for index, name in enumerate(report.names)}
    if len(report.efforts) != len(report.names) or not set(contract.joints.names) <= set(place):
        return None
    efforts = np.asarray(report.efforts, dtype=np.float64)[[place[name] for name in contract.joints.names]]
    return efforts if (np.abs(efforts) <= LARGEST_EFFORT).all() else None


def measure(
    report: JointReport, wanted: Sequence[str], contract: RobotContract, advice: str = ""
) -> tuple[FloatArray, FloatArray]:
    """Return positions and velocities (k,), rad or m and rad/s or m/s, of the `wanted` joints, in their order.

    A velocity that is missing or NaN is returned as NaN: it can be computed from positions.

    Args:
        report: Received report.
        wanted: Names of joints.
        contract: Contract of the robot.
        advice: Remedy to state where a joint is missing.

    Raises:
        JointReportError: when a joint is missing or named twice, the number of values differs from the number of names,
            a position is not finite, a velocity is infinite, or a fixed joint is not in place.
    """
    names = list(report.names)
    place = {name: index for index, name in enumerate(names)}
    if len(place) != len(names):
        raise JointReportError(JointFault.JOINTS, f"joint state names a joint twice: {names}")
    if missing := [name for name in wanted if name not in place]:
        what = f"joint state lacks {missing}; it has {names}"
        raise JointReportError(JointFault.JOINTS, f"{what}; {advice}" if advice else what)
    position = np.asarray(report.positions, dtype=np.float64)
    velocity = np.asarray(report.velocities, dtype=np.float64)
    if position.size != len(names) or velocity.size not in (0, len(names)):
        raise JointReportError(JointFault.JOINTS, _ragged(report))
    _require_fixed(names, position, contract)
    chosen = [place[name] for name in wanted]
    velocities = velocity[chosen] if velocity.size else np.full(len(chosen), np.nan)
    _require_numbers(np.concatenate([position[chosen], velocities[~np.isnan(velocities)]]))
    return position[chosen], velocities


def complete_reading(
    positions: FloatArray,
    velocities: FloatArray,
    stamp: float,
    contract: RobotContract,
    received: float = -np.inf,
) -> JointReading:
    """Return a reading of the whole robot.

    Args:
        positions: Positions of the arm's n joints, then of the fingers, rad or m, finite.
        velocities: Velocities of the arm's joints (n,), rad/s, finite.
        stamp: Time of the measurement, s.
        contract: Contract of the robot.
        received: Time of receipt, s, steady clock.

    Raises:
        JointReportError: when joints or fingers are at impossible positions, for example in degrees instead of radians.
    """
    n = contract.joints.count
    _require_reach(positions[:n], contract)
    return JointReading(positions[:n], velocities, _openings(positions[n:], contract), stamp, received)


def _ragged(report: JointReport) -> str:
    return (
        f"joint state has {len(report.names)} names, {len(report.positions)} positions and {len(report.velocities)} "
        "velocities; expected one of each a joint"
    )


def _require_fixed(names: Sequence[str], position: FloatArray, contract: RobotContract) -> None:
    if displaced := contract.joints.displaced(dict(zip(names, position.tolist(), strict=True))):
        expected = {name: contract.joints.fixed[name] for name in displaced}
        raise JointReportError(
            JointFault.FIXED_JOINT,
            f"joints that the contract fixes are elsewhere: {displaced}, expected {expected} within "
            f"{FIXED_TOLERANCE} (rad or m): move them there, or change joints.fixed in the contract",
        )


def _require_numbers(values: FloatArray) -> None:
    if not (np.abs(values) <= LARGEST_VALUE).all():  # NaN compares false
        fault = JointFault.OUT_OF_RANGE if np.isfinite(values).all() else JointFault.NOT_FINITE
        raise JointReportError(
            fault, f"joint state holds values that are not finite, or over {LARGEST_VALUE:g}: {values}"
        )


def _require_reach(positions: FloatArray, contract: RobotContract) -> None:
    joints = contract.joints
    astray = (positions < joints.lower - np.pi) | (positions > joints.upper + np.pi)
    if astray.any():
        which = {joints.names[i]: round(float(positions[i]), 3) for i in np.flatnonzero(astray)}
        raise JointReportError(
            JointFault.OUT_OF_RANGE,
            f"joints are over half a turn outside of their limits: {which} rad; are these degrees, or another robot?",
        )


def _openings(fingers: FloatArray, contract: RobotContract) -> tuple[float, ...]:
    openings = contract.openings(fingers.tolist())
    for arm, opening in zip(contract.arms, openings, strict=True):
        gripper = arm.gripper
        spread = gripper.max_opening - gripper.min_opening
        if not gripper.min_opening - spread <= opening <= gripper.max_opening + spread:
            raise JointReportError(
                JointFault.OUT_OF_RANGE,
                f"the fingers are {opening:.4f} m apart, expected {gripper.min_opening} to {gripper.max_opening}; look "
                f"at the units of {list(gripper.names)}",
            )
    return openings
