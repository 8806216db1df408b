"""Simulator node: offers the topics of a real arm with cameras, backed by the MuJoCo workcell."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from trajectory_msgs.msg import JointTrajectory

from vla_ros.envs.mujoco import rendering
from vla_ros.envs.mujoco.simulator import Command, Simulator, SimulatorOptions
from vla_ros.errors import ContractError, SimulationError, VlaError
from vla_ros.msg import ActionChunk, Instruction, PolicyStatus
from vla_ros.nodes.sim.conversions import message_to_command
from vla_ros.nodes.sim.outputs import SimPublishers
from vla_ros.nodes.transform_node import missing_frames
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.robot.link_frames import LinkFrames, cameras_without_frame, complete_description
from vla_ros.ros.graph.description import TRANSFORM_SOURCES
from vla_ros.ros.lifecycle import MAX_SEED, ManagedNode, run_node
from vla_ros.ros.messages.conversions import message_to_instruction, stamp_to_seconds
from vla_ros.ros.messages.transforms import TransformPublisher
from vla_ros.ros.qos import qos
from vla_ros.srv import ResetScene
from vla_ros.types import InstructionKind

MAX_PIXELS, MAX_RATE, MAX_FACTOR = 4096, 1000.0, 1000.0
"""Maximum image width and height, px; maximum image rate, Hz; maximum real-time factor."""

SWITCH_INTERVAL = 5e-4
"""Maximum time for which a callback may keep the interpreter from the physics, s; Python's default is ten times
longer."""


class SimNode(ManagedNode):
    """Serves one workcell. The simulator's threads publish; the executor's thread only stores received messages."""

    default_robot = "panda"

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("sim_node")
        self.failure = ""
        self._simulator: Simulator | None = None
        self._made: list[Callable[[], object]] = []

    def configure(self) -> None:
        """Build the workcell; create the robot's publishers, subscriptions and the reset service."""
        contract = load_contract(self.robot_parameter())
        options = self._options(contract)
        self._description = complete_description(contract)
        sources = ", ".join(TRANSFORM_SOURCES)
        self._tf = self.parameter("tf", "own", f"who publishes /tf and /robot_description: {sources}")
        if self._tf not in TRANSFORM_SOURCES:
            raise SimulationError(f"tf is '{self._tf}', expected one of {list(TRANSFORM_SOURCES)}")
        self._outputs = SimPublishers(self, contract, self.fail, self._publish_transforms(contract))
        self._made.append(self._outputs.close)
        self._simulator = simulator = Simulator(contract, options, self._outputs)
        self._made.append(simulator.close)
        self._listen_to_commands(contract, simulator, None if options.lockstep else simulator.time_of)
        self._listen(Instruction, "vla/task", "task", self._follow)
        if options.lockstep:
            self._listen(
                ActionChunk,
                "vla/action_chunk",
                "action_chunk",
                lambda m: simulator.chunk_arrived(stamp_to_seconds(m.observation_stamp)),
            )
            self._listen(
                PolicyStatus,
                "vla/policy_status",
                "status",
                lambda m: simulator.policy_spoke(m.inferences, m.state == PolicyStatus.FAULT),
            )
        service = self.create_service(ResetScene, "sim/reset_scene", self._on_reset)
        self._made.append(lambda: self.destroy_service(service))

    def _listen_to_commands(
        self, contract: RobotContract, simulator: Simulator, time_of: Callable[[float], float] | None
    ) -> None:
        def pass_on(take: Callable[[Command, int], None], arm: int) -> Callable[[JointTrajectory], None]:
            return lambda message: take(message_to_command(message, time_of, time.time()), arm)

        for number, arm in enumerate(contract.arms):
            topic, of_gripper = arm.controllers.arm_topic, arm.controllers.gripper_topic
            self._listen(JointTrajectory, topic, "arm_command", pass_on(simulator.command_arm, number))
            if arm.gripper.present:
                self._listen(JointTrajectory, of_gripper, "gripper_command", pass_on(simulator.command_gripper, number))

    def activate(self) -> None:
        """Start simulation time, as the only clock of the domain."""
        self._outputs.open_clock()
        if self._tf != "robot_state_publisher":  # which publishes it itself
            self._outputs.describe(self._description)
        if self._simulator is not None:
            self._simulator.run()

    def deactivate(self) -> None:
        """Stop simulation time."""
        if self._simulator is not None:
            self._simulator.run(False)

    def cleanup(self) -> None:
        """Destroy the inputs, end the simulator's threads, then destroy the publishers."""
        self._simulator = None
        while self._made:
            self._made.pop()()

    def fail(self, sentence: str) -> None:
        """Log that the simulation has ended, and shut the process down."""
        self.failure = sentence
        self.get_logger().fatal(sentence)
        self.context.try_shutdown()

    def _publish_transforms(self, contract: RobotContract) -> TransformPublisher | None:
        """Return the publisher of the transform tree; None if another node publishes it, or if creating it fails."""
        if self._tf != "own":
            return None
        frames = LinkFrames(self._description)
        if lacking := cameras_without_frame(contract, frames):
            self.get_logger().warning(missing_frames(lacking))
        try:
            transforms = TransformPublisher(self, frames)
        except ContractError as error:  # the arm also moves without it
            self.get_logger().warning(str(error))
            return None
        self._made.append(transforms.close)
        return transforms

    def _listen(self, kind: type, topic: str, profile: str, callback: Callable[[Any], None]) -> None:
        subscription = self.create_subscription(kind, topic, callback, qos(profile))
        self._made.append(lambda: self.destroy_subscription(subscription))

    def _options(self, contract: RobotContract) -> SimulatorOptions:
        width = self.parameter("camera_width", 0, "px; 0: the contract's", low=0, high=MAX_PIXELS)
        height = self.parameter("camera_height", 0, "px; 0: the contract's", low=0, high=MAX_PIXELS)
        rate = self.parameter("camera_rate_hz", 0.0, "images a second; 0: the contract's", low=0.0, high=MAX_RATE)
        factor = self.parameter(
            "real_time_factor", 1.0, "simulated seconds a second, as far as the machine can", low=0.0, high=MAX_FACTOR
        )
        if (width > 0) != (height > 0) or width < 0 or height < 0 or rate < 0.0 or not factor > 0.0:
            raise SimulationError(
                f"camera_width {width}, camera_height {height}, camera_rate_hz {rate}, real_time_factor {factor}: "
                "expected both sizes or none, and a factor above 0"
            )
        names = [camera.name for camera in contract.cameras]
        return SimulatorOptions(
            world=self.parameter("world", "pick", "what lies on the table: pick or tabletop"),
            seed=self.parameter("seed", 0, "decides the scene", low=0, high=MAX_SEED),
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


def main() -> int:
    """Run the node; return 1 when the simulation failed."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    rendering.Process.trains = False
    made: list[SimNode] = []

    def make() -> SimNode:
        made.append(SimNode())
        return made[0]

    code = run_node(make)
    return 1 if made and made[0].failure else code


if __name__ == "__main__":
    sys.exit(main())
