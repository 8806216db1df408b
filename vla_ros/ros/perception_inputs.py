"""Feed sensor messages to the assembler; used by the perception node and the preflight check."""

from __future__ import annotations

from collections.abc import Callable

from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_ros.errors import ObservationError
from vla_ros.perception.assembler import Assembler
from vla_ros.perception.health import CameraFault
from vla_ros.perception.interpolation import interpolate_state
from vla_ros.robot.joint_states.reader import JointStateReader
from vla_ros.robot.joint_states.report import JointReading
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.messages.conversions import camera_image_to_array, message_to_joint_report, stamp_to_seconds
from vla_ros.types import RobotState


def add_image(
    assembler: Assembler[JointReading], camera: str, message: Image | CompressedImage, now: float
) -> CameraFault:
    """Decode and check an image received at `now` (steady clock, s); add it if it is valid."""
    try:
        image = camera_image_to_array(message, assembler.cameras[camera])
    except ObservationError as error:
        return assembler.reject_image(camera, str(error), now)
    stamp = stamp_to_seconds(message.header.stamp)
    return assembler.add_image(camera, stamp, message.header.frame_id, image, now)


def add_joint_state(
    assembler: Assembler[JointReading], reader: JointStateReader, message: JointState, now: float
) -> JointReading | None:
    """Read a joint state received at `now` (steady clock, s), and add it.

    Returns:
        The reading; None if it contains no joints of this robot, or is not complete yet.

    Raises:
        JointReportError: when it is unusable; nothing is added then.
    """
    reading = reader.read(message_to_joint_report(message), now)
    if reading is not None:
        assembler.add_state(reading.stamp, reading, now)
    return reading


def state_between(kinematics: Kinematics) -> Callable[[JointReading, JointReading, float], RobotState]:
    """Return the assembler's function that interpolates a robot state between two readings."""

    def between(before: JointReading, after: JointReading, fraction: float) -> RobotState:
        """Interpolate the state between two readings at `fraction`, 0 to 1."""
        first = before.to_state(kinematics.forward)
        if after is before:
            return first
        return interpolate_state(first, after.to_state(kinematics.forward), fraction, kinematics.forward)

    return between
