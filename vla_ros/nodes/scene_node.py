"""The scene in Gazebo: lays it out by a seed, brings the arm home, and judges, as the simulator node does in MuJoCo.

/sim/reset_scene  ->  arm home (robot disarmed) -> objects to their places -> they rest -> answer
/scene/poses, /gripper/*_contact  ->  the judge  ->  /vla/task_status
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.task import Future
from rclpy.timer import Timer
from sensor_msgs.msg import JointState

from vla_ros.errors import ContractError, InstructionError, ObservationError, SimulationError, VlaError
from vla_ros.msg import Instruction, SafetyStatus
from vla_ros.msg import TaskStatus as TaskStatusMessage
from vla_ros.nodes.conversions import NANOSECONDS, joint_state_to_robot_state, message_to_instruction
from vla_ros.nodes.gazebo_service import PoseCall
from vla_ros.nodes.homing import PERIOD, Homing
from vla_ros.nodes.lifecycle import ManagedNode, run_node
from vla_ros.nodes.qos import qos
from vla_ros.nodes.sim_conversions import task_status_to_message
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.sim.gazebo import WORLD, GazeboJudge, GazeboScene, lay_out
from vla_ros.srv import ResetScene
from vla_ros.types import InstructionKind

STATUS_TICKS = 5
"""A verdict goes out every so many periods: ten a second."""

STEP_TIMEOUT = 10.0
"""Longest time of the simulation for one step of a reset beyond the motion itself, s."""

STALL_TIMEOUT = 10.0
"""Longest wall time, s, in which the simulation's clock may stand still."""

SETTLE_TIME = 0.5
"""Objects rest for so long, s, before the scene counts as laid out."""

PLACE_TOLERANCE = 0.01
"""An object counts as in its place within this distance, m."""

FINGERS = ("left", "right")


class Patience:
    """Tells a simulation that is slow, which is waited for, from one that stands still, which is not."""

    def __init__(self) -> None:
        """Begin without having seen the clock."""
        self._seen, self._since = -math.inf, math.inf

    def stalled(self, now: float, steady: float) -> bool:
        """Tell whether the simulation's clock `now`, s, has not moved for `STALL_TIMEOUT` s of the `steady` one."""
        if now != self._seen:
            self._seen, self._since = now, steady
        return steady - self._since > STALL_TIMEOUT


class SceneNode(ManagedNode):
    """See the module."""

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("scene_node")
        self._made: list[Callable[[], object]] = []
        self._waiting: list[Future] = []
        self._timer: Timer | None = None
        self._joint_state: JointState | None = None
        self._armed = False
        self._resetting = False
        self._ticks = 0

    def configure(self) -> None:
        """Read the contract, make the topics.

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
        self._contract = load_contract(self.parameter("robot", "panda", "robot contract: a name or a file"))
        self._kinematics = Kinematics(self._contract)
        self._world = self.parameter("world", WORLD, "name of the world in Gazebo")
        instruction = self.parameter("instruction", "", "task of the scene; empty: the scene's own")
        self._scene = lay_out(self.parameter("seed", 0, "decides the scene"), instruction or None)
        self._judge = GazeboJudge(self._scene)
        publisher = self.create_publisher(TaskStatusMessage, "/vla/task_status", qos("status"))
        self._made.append(lambda: self.destroy_publisher(publisher))
        self._say = publisher.publish
        self._listen(TFMessage, "/scene/poses", self._on_poses, "joint_states")
        for finger in FINGERS:
            take = self._contact_listener(finger)
            self._listen(Contacts, f"/gripper/{finger}_contact", take, "joint_states")
        self._listen(JointState, self._contract.controllers.joint_states_topic, self._on_joint_state, "joint_states")
        self._listen(SafetyStatus, "/vla/safety_status", self._on_safety, "status")
        self._listen(Instruction, "/vla/task", self._on_task, "task")
        service = self.create_service(ResetScene, "/sim/reset_scene", self._on_reset)
        self._made.append(lambda: self.destroy_service(service))

    def activate(self) -> None:
        """Lay out the first scene, then judge."""
        self._timer = self.create_timer(PERIOD, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._call = PoseCall(self._world, self._scene.poses)

    def deactivate(self) -> None:
        """Stop judging."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
            self._call.close()

    def cleanup(self) -> None:
        """Take the topics away."""
        while self._made:
            self._made.pop()()

    def _listen(self, kind: type, topic: str, callback: Callable[[Any], None], profile: str) -> None:
        subscription = self.create_subscription(kind, topic, callback, qos(profile))
        self._made.append(lambda: self.destroy_subscription(subscription))

    # What Gazebo and the graph say.

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
        self._armed = message.armed or message.state != SafetyStatus.DISARMED

    def _on_task(self, message: Instruction) -> None:
        instruction = message_to_instruction(message)
        if instruction.kind is not InstructionKind.TASK:
            return
        try:
            self._judge.follow(instruction.text)
        except InstructionError as error:
            self.get_logger().warning(str(error))

    def _tick(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)
        self._ticks += 1
        if self._ticks % STATUS_TICKS == 0 and not self._resetting:
            now = self._now()
            status = self._judge.verdict(now)
            self._say(task_status_to_message(status, self._judge.instruction, now, self._contract.base_frame))

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds) / NANOSECONDS

    # Another scene.

    async def _on_reset(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        try:
            if not self.active or self._resetting:
                raise SimulationError("the scene node is not active, or another reset is under way")
            if self._armed:
                raise SimulationError("the robot is armed: disarm it first (/vla/arm)")
            scene = lay_out(int(request.seed), request.instruction or None)
            self._resetting = True
            await self._lay_out(scene)
        except VlaError as error:
            response.message = str(error)[:256]
            return response
        finally:
            self._resetting = False
        names = [item.name for item in scene.objects]
        response.success, response.instruction, response.objects = True, scene.instruction, names
        response.message = f"scene {request.seed}: {', '.join(names)}"
        return response

    async def _lay_out(self, scene: GazeboScene) -> None:
        await self._go_home()
        call = PoseCall(self._world, scene.poses)
        try:
            await self._until(call.finished, "an answer of Gazebo to set_pose_vector")
        finally:
            call.close()
        self._scene, self._judge = scene, GazeboJudge(scene)
        await self._until(lambda: self._judge.in_place(PLACE_TOLERANCE), "the objects in their places")
        end = self._now() + SETTLE_TIME
        await self._until(lambda: self._now() >= end, "simulation time that runs")
        if not self._judge.in_place(PLACE_TOLERANCE):
            raise SimulationError("the objects do not rest where they were put")

    async def _go_home(self) -> None:
        if self._joint_state is None:
            raise SimulationError("no joint states: is the robot in Gazebo, and is the bridge up?")
        homing = Homing(self, self._contract, self._positions())
        try:
            await self._until(lambda: homing.connected, "controllers that listen")
            patience, begin = Patience(), self._now()
            while not homing.done:
                if self._armed:
                    raise SimulationError("the robot was armed in the middle of a reset")
                if patience.stalled(self._now(), time.monotonic()):
                    raise SimulationError(f"the simulation's clock stood still for {STALL_TIMEOUT:.0f} s")
                homing.step(self._now() - begin)
                await self._next_tick()
            await self._until(self._is_home, "the arm at home")
        finally:
            homing.close()

    def _positions(self) -> Any:  # noqa: ANN401 (an array)
        try:
            return joint_state_to_robot_state(self._joint_state, self._contract, self._kinematics).joint_positions
        except ObservationError as error:
            raise SimulationError(f"joint states: {error}") from error

    def _is_home(self) -> bool:
        return bool(np.abs(self._positions() - self._contract.joints.home).max() < 0.05)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        patience, end = Patience(), self._now() + STEP_TIMEOUT
        while not condition():
            if self._now() > end:
                raise SimulationError(f"no {what} within {STEP_TIMEOUT:.0f} s")
            if patience.stalled(self._now(), time.monotonic()):
                raise SimulationError(f"no {what}: the simulation's clock stood still for {STALL_TIMEOUT:.0f} s")
            await self._next_tick()

    def _next_tick(self) -> Future:
        future = Future(executor=self.executor)
        self._waiting.append(future)
        return future


def main() -> int:
    """Run the node."""
    return run_node(SceneNode)


if __name__ == "__main__":
    raise SystemExit(main())
