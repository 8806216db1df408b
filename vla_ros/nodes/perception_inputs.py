"""From sensor messages to the assembler: what the perception node does with them, and the preflight on trial."""

from __future__ import annotations

from dataclasses import dataclass

from sensor_msgs.msg import Image, JointState

from vla_ros.errors import ObservationError
from vla_ros.nodes.conversions import image_to_array, joint_state_to_robot_state, stamp_to_seconds
from vla_ros.perception.assembler import Assembler
from vla_ros.perception.health import CameraFault
from vla_ros.perception.interpolation import interpolate_state
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import RobotState


def add_image(assembler: Assembler[JointState], camera: str, message: Image, now: float) -> CameraFault:
    """Decode and judge an image that came at `now`, s, steady clock; add it if it is sound."""
    try:
        image = image_to_array(message)
    except ObservationError as error:
        return assembler.refuse_picture(camera, str(error), now)
    stamp = stamp_to_seconds(message.header.stamp)
    return assembler.add_picture(camera, stamp, message.header.frame_id, image, now)


@dataclass(frozen=True)
class StateReader:
    """Turns joint states into states of the robot, for the assembler."""

    contract: RobotContract
    kinematics: Kinematics

    def between(self, before: JointState, after: JointState, share: float) -> RobotState:
        """Return the state at `share`, 0 to 1, of the way between two messages.

        Raises:
            ObservationError: when one of them is no state of this robot.
        """
        first = joint_state_to_robot_state(before, self.contract, self.kinematics)
        if after is before:
            return first
        second = joint_state_to_robot_state(after, self.contract, self.kinematics)
        return interpolate_state(first, second, share, self.kinematics.forward)
