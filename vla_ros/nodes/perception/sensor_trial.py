"""Tests the robot's sensors by passing their messages through the perception node's checks for a while.

A single valid message proves little: a second driver on the same topic, stamps that never match, or images at half the
contract's rate only show over time.
"""

from __future__ import annotations

from dataclasses import dataclass

from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_ros.errors import ObservationError
from vla_ros.perception.assembler import Assembler, ObservationLimits
from vla_ros.perception.health import CameraFault
from vla_ros.robot.contract import CameraContract, RobotContract
from vla_ros.robot.joint_states.reader import JointStateReader
from vla_ros.robot.joint_states.report import JointReading
from vla_ros.robot.joint_states.velocity_estimate import WINDOW as VELOCITY_WINDOW
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.perception_inputs import add_image, add_joint_state, state_between

WINDOW = 1.0
"""Time for which every message of a sensor must be valid, s."""

WINDOW_IMAGES = 3
"""Minimum number of images in a camera's window, which is longer for a slow camera."""

LEAST_RATE = 0.5
"""Fraction of the contract's image rate below which a camera is too slow."""


@dataclass
class _Soundness:
    """Time since which every message of a sensor has been valid, s on the steady clock, and its latest fault."""

    since: float | None = None
    fault: str = ""

    def note(self, fault: str, now: float) -> None:
        if fault:
            self.since, self.fault = None, fault
        elif self.since is None:
            self.since = now

    def sentence(self, window: float, now: float) -> str:
        """Return why the sensor has not been valid for `window` s; "" if it has."""
        if self.since is not None and now - self.since >= window:
            return ""
        return self.fault or "has been watched for too short a time"


class SensorTrial:
    """Checks messages and reports each sensor's fault; `now` is the steady clock, s."""

    def __init__(self, contract: RobotContract, kinematics: Kinematics) -> None:
        """Start without messages."""
        self._contract, self._reader = contract, JointStateReader(contract)
        between = state_between(kinematics)
        self._assembler: Assembler[JointReading] = Assembler(contract.cameras, between, ObservationLimits())
        self._cameras = {camera.name: _Soundness() for camera in contract.cameras}
        self._joints = _Soundness()
        self._parts: set[tuple[str, ...]] = set()
        self._observed, self._differentiates = False, False

    def add_image(self, camera: str, message: Image | CompressedImage, now: float) -> None:
        """Add an image."""
        fault = add_image(self._assembler, camera, message, now)
        sentence = "" if fault is CameraFault.NONE else self._assembler.health[camera].sentence(now)
        self._cameras[camera].note(sentence, now)

    def add_joint_state(self, message: JointState, now: float) -> None:
        """Add a joint state; one without joints of this robot is from another machine, and no fault."""
        if not self._reader.sources(message.name):
            return
        wanted = {*self._contract.joints.names, *self._contract.finger_names}
        named = wanted & set(message.name)
        if named != wanted and not self._contract.controllers.joint_states_from:
            self._parts.add(tuple(sorted(named)))
        self._joints.note(self._state_fault(message, now), now)
        self._differentiates = self._differentiates or self._reader.differentiates

    def _state_fault(self, message: JointState, now: float) -> str:
        try:
            add_joint_state(self._assembler, self._reader, message, now)
        except ObservationError as error:
            return str(error)
        stamped = message.header.stamp.sec or message.header.stamp.nanosec
        return "" if stamped else "joint states carry no time stamp: set header.stamp in the driver"

    def camera(self, camera: CameraContract, now: float) -> str:
        """Return the fault of a camera; "" if there is none."""
        health = self._assembler.health[camera.name]
        fault = health.watch(now)
        if fault in (CameraFault.STALE, CameraFault.SILENT):
            return health.sentence(now)
        window = max(WINDOW, WINDOW_IMAGES / camera.rate_hz)
        return self._cameras[camera.name].sentence(window, now)

    def slow(self, camera: CameraContract, now: float) -> str:
        """Return a sentence if a camera's rate, measured at receipt, is too low; else ""."""
        rate = self._assembler.health[camera.name].rate(now)
        if rate >= LEAST_RATE * camera.rate_hz:
            return ""
        return f"{rate:.1f} images a second come, the contract says {camera.rate_hz:g}"

    def joint_states(self, publishers: str, now: float) -> str:
        """Return the fault of the joint states, "" if there is none; `publishers` names their publishers."""
        fault = self._joints.sentence(WINDOW, now)
        if fault and len(self._parts) > 1:
            parts = " and ".join(str(list(part)) for part in sorted(self._parts))
            return f"joint states come in parts, {parts}, published by {publishers}: {fault}"
        return fault

    def price(self) -> str:
        """Return what is accepted with a drawback; "" if nothing is."""
        if not self._differentiates:
            return ""
        return (
            "velocities of joints are missing or NaN: they are computed from positions, and lag behind by "
            f"{500.0 * VELOCITY_WINDOW:.0f} ms, or by half of the time between two states where that is longer"
        )

    def observation(self, now: float) -> str:
        """Return why no observation has been assembled yet; "" once one has."""
        try:
            while (made := self._assembler.take(1, now)) is not None:
                self._observed = self._observed or made is not None
        except ObservationError as error:
            return str(error)
        return (
            "" if self._observed else self._assembler.synchronizer.sentence() or "images and joint states do not meet"
        )
