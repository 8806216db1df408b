"""Scene in Gazebo: sets it up by seed, homes the arm, and checks success, as the simulator node does in MuJoCo.

/sim/reset_scene  ->  arm home (robot disarmed) -> objects to their places -> they rest -> response
/scene/poses, /gripper/*_contact  ->  success checker  ->  /vla/task_status
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.timer import Timer
from sensor_msgs.msg import JointState

from vla_ros.envs.gazebo.scene import WORLD, GazeboScene, GazeboSuccessChecker, lay_out
from vla_ros.errors import ContractError, InstructionError, ObservationError, SimulationError
from vla_ros.msg import Instruction, SafetyStatus
from vla_ros.msg import TaskStatus as TaskStatusMessage
from vla_ros.nodes.sim.conversions import task_status_to_message
from vla_ros.nodes.sim.gazebo_service import PoseCall
from vla_ros.nodes.sim.scene_reset import SceneReset
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.lifecycle import MAX_SEED, ManagedNode, run_node
from vla_ros.ros.messages.conversions import (
    NANOSECONDS,
    joint_state_to_robot_state,
    message_to_instruction,
    stamp_to_seconds,
)
from vla_ros.ros.qos import qos
from vla_ros.types import FloatArray, InstructionKind

STATUS_PERIOD = 0.1
"""Period of verdicts, s of the wall clock."""

PLACE_TOLERANCE = 0.01
"""Distance within which an object counts as in place, m."""

STATE_AGE = 1.0
"""Maximum age of a joint state, s, from which the arm's posture counts as known."""

FINGERS = ("left", "right")


class SceneNode(ManagedNode):
    """Sets up and judges the scene in Gazebo."""

    default_robot = "panda"

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("scene_node")
        self._made: list[Callable[[], object]] = []
        self._timer: Timer | None = None
        self._first: PoseCall | None = None
        self._reset: SceneReset | None = None
        self._joint_state: JointState | None = None
        self._safety: SafetyStatus | None = None

    def configure(self) -> None:
        """Read the contract and create the topics.

        Raises:
            ContractError: when the messages of ros_gz are not installed.
        """
        try:
            from ros_gz_interfaces.msg import Contacts
            from tf2_msgs.msg import TFMessage
        except ImportError as error:
            raise ContractError(
                f"{error}: the scene in Gazebo needs ros_gz_interfaces and tf2_msgs; "
                "sudo apt install ros-$ROS_DISTRO-ros-gz"
            ) from error
        self._contract = load_contract(self.robot_parameter())
        self._kinematics = Kinematics(self._contract)
        self._world = self.parameter("world", WORLD, "name of the world in Gazebo")
        instruction = self.parameter("instruction", "", "task of the scene; empty: the scene's own")
        self._scene = lay_out(self.parameter("seed", 0, "decides the scene", low=0, high=MAX_SEED), instruction or None)
        self._judge = GazeboSuccessChecker(self._scene)
        publisher = self.create_publisher(TaskStatusMessage, "vla/task_status", qos("status"))
        self._made.append(lambda: self.destroy_publisher(publisher))
        self._say = publisher.publish
        self._listen(TFMessage, "scene/poses", self._on_poses, "joint_states")
        for finger in FINGERS:
            take = self._contact_listener(finger)
            self._listen(Contacts, f"gripper/{finger}_contact", take, "joint_states")
        self._listen(JointState, self._contract.controllers.joint_states_topic, self._on_joint_state, "joint_states")
        self._listen(SafetyStatus, "vla/safety_status", self._on_safety, "status")
        self._listen(Instruction, "vla/task", self._on_task, "task")

    def activate(self) -> None:
        """Set up the first scene; then publish verdicts and serve resets."""
        self._first = PoseCall(self._world, self._scene.poses)
        self._timer = self.create_timer(STATUS_PERIOD, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._reset = SceneReset(self, self._contract, self._world, self)

    def deactivate(self) -> None:
        """Stop publishing verdicts; a running reset ends with an error."""
        if self._reset is not None:
            self._reset.close()
            self._reset = None
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        if self._first is not None:
            self._first.close()
            self._first = None

    def cleanup(self) -> None:
        """Destroy the publisher and the subscriptions."""
        while self._made:
            self._made.pop()()

    def _listen(self, kind: type, topic: str, callback: Callable[[Any], None], profile: str) -> None:
        subscription = self.create_subscription(kind, topic, callback, qos(profile))
        self._made.append(lambda: self.destroy_subscription(subscription))

    # Subscription callbacks.

    def _on_poses(self, message: Any) -> None:  # noqa: ANN401 (tf2_msgs is not everywhere)
        for transform in message.transforms:
            place = transform.transform.translation
            self._judge.moved(transform.child_frame_id, np.array([place.x, place.y, place.z]))

    def _contact_listener(self, finger: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:  # noqa: ANN401 (ros_gz_interfaces is not everywhere)
            for contact in message.contacts:
                for side in (contact.collision1.name, contact.collision2.name):
                    self._judge.touched(finger, side.split("::")[0], self._now())

        return take

    def _on_joint_state(self, message: JointState) -> None:
        self._joint_state = message

    def _on_safety(self, message: SafetyStatus) -> None:
        self._safety = message

    def _on_task(self, message: Instruction) -> None:
        instruction = message_to_instruction(message)
        if instruction.kind is not InstructionKind.TASK:
            return
        try:
            self._judge.follow(instruction.text)
        except InstructionError as error:
            self.get_logger().warning(str(error))

    def _tick(self) -> None:
        if self._first is not None:
            self._look_after(self._first)
        if self._reset is not None and not self._reset.busy:
            now = self._now()
            status = self._judge.verdict(now)
            self._say(task_status_to_message(status, self._judge.instruction, now, self._contract.base_frame))

    def _look_after(self, call: PoseCall) -> None:
        try:
            if not call.finished():
                return
        except SimulationError as error:
            self.get_logger().error(f"the first scene is not laid out, call /sim/reset_scene: {error}")
        self._first = None

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds) / NANOSECONDS

    # Implementation of `CellState`.

    def refusal(self) -> str:
        """Return why a reset must not move the arm now, or ""."""
        if self._safety is None:
            return "the safety layer has not said yet whether the robot is armed: is the safety node active?"
        if self._safety.armed or self._safety.state != SafetyStatus.DISARMED:
            return "the robot is armed: disarm it first (/vla/arm)"
        return ""

    def joint_positions(self) -> FloatArray:
        """Return the current joint positions, (n,) rad.

        Raises:
            SimulationError: when they are not known.
        """
        if self._joint_state is None:
            raise SimulationError("no joint states: is the robot in Gazebo, and is the bridge up?")
        age = self._now() - stamp_to_seconds(self._joint_state.header.stamp)
        if not age <= STATE_AGE:
            raise SimulationError(f"the last joint state is {age:.1f} s old: has the bridge ended?")
        try:
            return joint_state_to_robot_state(self._joint_state, self._contract, self._kinematics).joint_positions
        except ObservationError as error:
            raise SimulationError(f"joint states: {error}") from error

    def expect(self, scene: GazeboScene) -> None:
        """Judge `scene` from now on."""
        self._scene, self._judge = scene, GazeboSuccessChecker(scene)

    def in_place(self) -> bool:
        """Return whether every object is where the scene places it."""
        return self._judge.in_place(PLACE_TOLERANCE)


def main() -> int:
    """Run the node."""
    return run_node(SceneNode)


if __name__ == "__main__":
    raise SystemExit(main())
