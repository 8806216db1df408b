"""Publish the outputs of a simulation on the topics of a real robot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import String

from vla_ros.envs.env import TaskStatus
from vla_ros.envs.mujoco.cameras import Frame
from vla_ros.errors import SimulationError
from vla_ros.msg import TaskStatus as TaskStatusMessage
from vla_ros.nodes.sim.conversions import camera_info, task_status_to_message
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.clock.publishers import CLOCK_TOPIC, other_clock_publishers
from vla_ros.ros.messages.conversions import (
    array_to_compressed_image,
    array_to_image,
    camera_message_type,
    robot_state_to_joint_state,
    seconds_to_stamp,
)
from vla_ros.ros.messages.transforms import TransformPublisher
from vla_ros.ros.qos import qos
from vla_ros.types import RobotState


class SimPublishers:
    """Publishes a simulation's `Outputs` (`vla_ros.envs.mujoco.simulator`), called in the simulation's threads."""

    def __init__(
        self,
        node: Node,
        contract: RobotContract,
        fail: Callable[[str], None],
        transforms: TransformPublisher | None = None,
    ) -> None:
        """Create the topics on `node`; `fail` is called when the simulation has ended with an error."""
        self._transforms = transforms
        self._node, self._contract, self._fail = node, contract, fail
        make = node.create_publisher
        self._clock: Publisher | None = None
        self._joints = make(JointState, contract.controllers.joint_states_topic, qos("joint_states_out"))
        self._status = make(TaskStatusMessage, "vla/task_status", qos("status"))
        self._robot = make(String, "robot_description", qos("robot_description"))
        self._images = {c.name: make(camera_message_type(c), c.topic, qos("camera_out")) for c in contract.cameras}
        self._infos = {
            c.name: make(CameraInfo, c.info_topic, qos("camera_info")) for c in contract.cameras if c.info_topic
        }

    def close(self) -> None:
        """Destroy the publishers."""
        cameras = [*self._images.values(), *self._infos.values()]
        clock = [self._clock] if self._clock is not None else []
        for publisher in (*clock, self._joints, self._status, self._robot, *cameras):
            self._node.destroy_publisher(publisher)

    def open_clock(self) -> None:
        """Start publishing the domain's clock.

        Raises:
            SimulationError: when another node already does; names it.
        """
        if others := other_clock_publishers(self._node):
            raise SimulationError(others)
        if self._clock is None:
            self._clock = self._node.create_publisher(Clock, CLOCK_TOPIC, qos("clock"))

    def describe(self, urdf: str) -> None:
        """Publish the robot description."""
        self._robot.publish(String(data=urdf))

    def clock(self, time: float) -> None:
        """Publish the time."""
        if self._clock is not None:
            self._clock.publish(Clock(clock=seconds_to_stamp(time)))

    def state(self, state: RobotState) -> None:
        """Publish the measured joint state."""
        message = robot_state_to_joint_state(state, self._contract)
        self._joints.publish(message)
        if self._transforms is not None:
            self._transforms.publish(dict(zip(message.name, message.position, strict=True)), state.stamp)

    def frames(self, frames: Sequence[Frame]) -> None:
        """Publish images with their calibration."""
        for frame in frames:
            camera = self._contract.camera(frame.camera)
            optical, to_message = camera.frame, array_to_compressed_image if camera.is_compressed else array_to_image
            self._images[frame.camera].publish(to_message(frame.image, frame.time, optical))
            height, width, _ = frame.image.shape
            if infos := self._infos.get(frame.camera):
                infos.publish(camera_info(frame.matrix, height, width, frame.time, optical))

    def status(self, status: TaskStatus, instruction: str, time: float) -> None:
        """Publish the verdict of the success checker."""
        self._status.publish(task_status_to_message(status, instruction, time, self._contract.base_frame))

    def warn(self, sentence: str) -> None:
        """Log a warning, at most once a second."""
        self._node.get_logger().warning(sentence, throttle_duration_sec=1.0)

    def failed(self, sentence: str) -> None:
        """Report that the simulation has ended."""
        self._fail(sentence)
