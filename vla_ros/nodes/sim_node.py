"""The simulated robot as ROS sees it: the topics of a real arm with cameras, served by the MuJoCo cell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from vla_ros.errors import SimulationError, VlaError
from vla_ros.msg import ActionChunk, Instruction, PolicyStatus
from vla_ros.msg import TaskStatus as TaskStatusMessage
from vla_ros.nodes.conversions import (
    array_to_image,
    message_to_instruction,
    robot_state_to_joint_state,
    seconds_to_stamp,
    stamp_to_seconds,
)
from vla_ros.nodes.lifecycle import ManagedNode, run_node
from vla_ros.nodes.qos import qos
from vla_ros.nodes.sim_conversions import camera_info, message_to_command, task_status_to_message
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.sim.cameras import Frame
from vla_ros.sim.simulator import Simulator, SimulatorOptions
from vla_ros.sim.tasks import TaskStatus
from vla_ros.srv import ResetScene
from vla_ros.types import InstructionKind, RobotState


class SimNode(ManagedNode):
    """Serves one cell. Its own threads publish; the executor's thread only leaves what arrives."""

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("sim_node")
        self.failure = ""
        self._simulator: Simulator | None = None
        self._made: list[Callable[[], object]] = []

    def configure(self) -> None:
        """Build the cell and the topics of its robot."""
        contract = load_contract(self.parameter("robot", "panda", "robot contract: a name or a file"))
        options = self._options(contract)
        self._description = contract.urdf.read_text(encoding="utf-8")
        self._outputs = _Publishers(self, contract)
        self._made.append(self._outputs.close)
        self._simulator = simulator = Simulator(contract, options, self._outputs)
        self._made.append(simulator.close)
        arm, gripper = contract.controllers.arm_topic, contract.controllers.gripper_topic
        self._listen(JointTrajectory, arm, "arm_command", lambda m: simulator.command_arm(message_to_command(m)))
        self._listen(
            JointTrajectory, gripper, "gripper_command", lambda m: simulator.command_gripper(message_to_command(m))
        )
        self._listen(Instruction, "/vla/task", "task", self._follow)
        if options.lockstep:
            self._listen(
                ActionChunk, "/vla/action_chunk", "action_chunk",
                lambda m: simulator.chunk_arrived(stamp_to_seconds(m.observation_stamp)),
            )  # fmt: skip
            self._listen(
                PolicyStatus, "/vla/policy_status", "status",
                lambda m: simulator.policy_spoke(m.inferences, m.state == PolicyStatus.FAULT),
            )  # fmt: skip
        service = self.create_service(ResetScene, "/sim/reset_scene", self._on_reset)
        self._made.append(lambda: self.destroy_service(service))

    def activate(self) -> None:
        """Let time run."""
        self._outputs.describe(self._description)
        if self._simulator is not None:
            self._simulator.run()

    def deactivate(self) -> None:
        """Let time stand still."""
        if self._simulator is not None:
            self._simulator.run(False)

    def cleanup(self) -> None:
        """Take away what commands it, end its threads, then take its topics away."""
        self._simulator = None
        while self._made:
            self._made.pop()()

    def fail(self, sentence: str) -> None:
        """Say that the simulation has ended, and end the process with it."""
        self.failure = sentence
        self.get_logger().fatal(sentence)
        self.context.try_shutdown()

    def _listen(self, kind: type, topic: str, profile: str, callback: Callable[[Any], None]) -> None:
        subscription = self.create_subscription(kind, topic, callback, qos(profile))
        self._made.append(lambda: self.destroy_subscription(subscription))

    def _options(self, contract: RobotContract) -> SimulatorOptions:
        width = self.parameter("camera_width", 0, "px, in place of the contract's; 0: the contract's")
        height = self.parameter("camera_height", 0, "px, in place of the contract's; 0: the contract's")
        rate = self.parameter("camera_rate_hz", 0.0, "images a second, in place of the contract's; 0: the contract's")
        factor = self.parameter("real_time_factor", 1.0, "simulated seconds a second, as far as the machine can")
        if (width > 0) != (height > 0) or width < 0 or height < 0 or rate < 0.0 or not factor > 0.0:
            raise SimulationError(
                f"camera_width {width}, camera_height {height}, camera_rate_hz {rate}, real_time_factor {factor}: "
                "expected both sizes or none, and a factor above 0"
            )
        names = [camera.name for camera in contract.cameras]
        return SimulatorOptions(
            seed=self.parameter("seed", 0, "decides the scene"),
            instruction=self.parameter("instruction", "", "task of the scene; empty: the scene's own") or None,
            real_time_factor=factor,
            lockstep=self.parameter("lockstep", False, "advance one control period a command"),
            camera_sizes=dict.fromkeys(names, (height, width)) if width else {},
            camera_rates=dict.fromkeys(names, rate) if rate else {},
        )

    def _follow(self, message: Instruction) -> None:
        if self._simulator is not None:
            instruction = message_to_instruction(message)
            self._simulator.follow_instruction(instruction.text if instruction.kind is InstructionKind.TASK else None)

    def _on_reset(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        if self._simulator is None:
            response.message = "the simulator is not configured"
            return response
        try:
            response.instruction, objects = self._simulator.reset(int(request.seed), request.instruction or None)
        except (VlaError, TimeoutError) as error:
            response.message = str(error)
            return response
        response.success, response.objects = True, list(objects)
        response.message = f"scene {request.seed}: {', '.join(objects)}"
        return response


class _Publishers:
    """What the simulation says, as messages. Called in the threads of the simulation."""

    def __init__(self, node: SimNode, contract: RobotContract) -> None:
        self._node, self._contract = node, contract
        make = node.create_publisher
        self._clock = make(Clock, "/clock", qos("clock"))
        self._joints = make(JointState, contract.controllers.joint_states_topic, qos("joint_states_out"))
        self._status = make(TaskStatusMessage, "/vla/task_status", qos("status"))
        self._robot = make(String, "/robot_description", qos("robot_description"))
        self._cameras = {
            c.name: (make(Image, c.topic, qos("camera_out")), make(CameraInfo, c.info_topic, qos("camera_info")))
            for c in contract.cameras
        }

    def close(self) -> None:
        cameras = [publisher for pair in self._cameras.values() for publisher in pair]
        for publisher in (self._clock, self._joints, self._status, self._robot, *cameras):
            self._node.destroy_publisher(publisher)

    def describe(self, urdf: str) -> None:
        self._robot.publish(String(data=urdf))

    def clock(self, time: float) -> None:
        self._clock.publish(Clock(clock=seconds_to_stamp(time)))

    def state(self, state: RobotState) -> None:
        self._joints.publish(robot_state_to_joint_state(state, self._contract))

    def frames(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            images, infos = self._cameras[frame.camera]
            optical = self._contract.camera(frame.camera).frame
            images.publish(array_to_image(frame.image, frame.time, optical))
            infos.publish(camera_info(frame.matrix, *frame.image.shape[:2], frame.time, optical))

    def status(self, status: TaskStatus, instruction: str, time: float) -> None:
        self._status.publish(task_status_to_message(status, instruction, time, self._contract.base_frame))

    def warn(self, sentence: str) -> None:
        self._node.get_logger().warning(sentence, throttle_duration_sec=1.0)

    def failed(self, sentence: str) -> None:
        self._node.fail(sentence)


def main() -> int:
    """Run the node; 1 when the simulation ended by itself."""
    made: list[SimNode] = []

    def make() -> SimNode:
        made.append(SimNode())
        return made[0]

    code = run_node(make)
    return 1 if made and made[0].failure else code


if __name__ == "__main__":
    sys.exit(main())
