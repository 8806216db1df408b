"""A rig that plays robot and policy, and a referee that judges commands by arithmetic of its own."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from vla_ros.actions.decoding import PoseTrajectory, encode
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, encode_chunk
from vla_ros.errors import ObservationError
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.parameters import SafetyParameters, load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.types import ActionChunk, FloatArray, Pose, RobotState, SafetyDecision, SafetyState

PERIOD = 0.01
TOOL_DOWN = np.array([1.0, 0.0, 0.0, 0.0])


@pytest.fixture(scope="session")
def contract() -> RobotContract:
    return load_contract("panda")


@pytest.fixture(scope="session")
def parameters() -> SafetyParameters:
    return load_parameters()


@pytest.fixture
def rig(contract, parameters) -> Rig:
    return Rig(contract, parameters)


@pytest.fixture(scope="session")
def armed(parameters) -> Callable[[RobotContract], Rig]:
    """armed(contract): a rig whose robot is armed."""

    def made(contract: RobotContract) -> Rig:
        rig = Rig(contract, parameters)
        rig.arm()
        return rig

    return made


@pytest.fixture(scope="session")
def referee_of() -> Callable[[RobotContract], Referee]:
    return Referee


@pytest.fixture(scope="session")
def referee(contract) -> Referee:
    return Referee(contract)


@pytest.fixture(scope="session")
def meshed(contract, tmp_path_factory) -> RobotContract:
    """The arm with a mesh on its last link: a triangle of 1 cm, 3 m from the joint that carries it."""
    folder = tmp_path_factory.mktemp("meshed")
    corners = "".join(f"vertex {x} {y} -3.0\n" for x, y in ((0.0, 0.0), (0.01, 0.0), (0.0, 0.01)))
    facet = f"facet normal 0 0 1\nouter loop\n{corners}endloop\nendfacet\n"
    (folder / "flag.stl").write_text(f"solid flag\n{facet}endsolid flag\n", encoding="utf-8")
    mesh = f'<collision><geometry><mesh filename="{folder / "flag.stl"}"/></geometry></collision>'
    text, link = contract.urdf.read_text(encoding="utf-8"), '<link name="panda_link7">'
    assert text.count(link) == 1
    (folder / "arm.urdf").write_text(text.replace(link, link + mesh), encoding="utf-8")
    return replace(contract, urdf=folder / "arm.urdf")


class Rig:
    """An ideal arm, a clock, and a policy that asks for what the test wants."""

    def __init__(self, contract: RobotContract, parameters: SafetyParameters, q: FloatArray | None = None) -> None:
        self.contract, self.parameters = contract, parameters
        self.supervisor = SafetySupervisor(contract, parameters)
        self.kinematics = Kinematics(contract)
        self.q = np.array(contract.joints.home if q is None else q)
        self.velocities = np.zeros(contract.joints.count)
        self.opening = contract.gripper.max_opening
        self.now, self.stamp = 500.0, 100.0  # the steady clock and the sensor's have nothing in common
        self.sequence = 0
        self.followed: tuple[float, JointStep] | None = None
        self.decisions: list[SafetyDecision] = []
        self.commands: list[FloatArray] = [self.q.copy()]

    def state(self, **changes: object) -> RobotState:
        values = {
            "joint_positions": self.q,
            "joint_velocities": self.velocities,
            "gripper_opening": self.opening,
            "end_effector": self.pose(),
            "stamp": self.stamp,
        } | changes
        return RobotState(**values)

    def pose(self) -> Pose:
        return self.kinematics.forward(self.q)

    def sense(self) -> None:
        self.supervisor.receive_state(self.state(), self.now)

    def wait(self, ticks: int = 12) -> None:
        """Let sound states come, without ticks."""
        for _ in range(ticks):
            self.now += PERIOD
            self.stamp += PERIOD
            self.sense()

    def arm(self) -> None:
        self.wait()
        assert self.supervisor.arm(self.now) is Reason.OK

    def tick(self, sense: bool = True) -> SafetyDecision:
        """One period: a state comes, the supervisor ticks, the arm does as it is told."""
        self.now += PERIOD
        self.stamp += PERIOD
        if sense:
            with contextlib.suppress(ObservationError):  # as a node does: the supervisor keeps the fault
                self.sense()
        decision = self.supervisor.tick(self.now)
        self.decisions.append(decision)
        commanding = self.supervisor.commanding
        if self.followed is not None and (decision.joint_positions is not None or not commanding):
            when, step = self.followed  # where ticks did not come the controller has followed the stop
            self.commands += [*step.without(max(int((self.now - when) / PERIOD + 0.25) - 1, 0))]
            self.q = self.commands[-1].copy()
        if decision.joint_positions is None:
            self.followed = self.followed if commanding else None
        if decision.joint_positions is not None:
            self.followed = self.now, self.supervisor.commanded
            self.velocities = (decision.joint_positions - self.q) / PERIOD
            self.q = np.array(decision.joint_positions)
            self.opening = decision.gripper_opening
            self.commands.append(self.q.copy())
        return decision

    def ticks(self, count: int) -> SafetyDecision:
        for _ in range(count):
            decision = self.tick()
        return decision

    def actions(self, positions: FloatArray, openings: float | FloatArray = 0.08) -> FloatArray:
        positions = np.atleast_2d(positions)
        rows = len(positions)
        start = self.pose()
        trajectory = PoseTrajectory(
            positions, np.tile(start.quaternion, (rows, 1)), np.broadcast_to(np.asarray(openings, float), (rows,))
        )
        return encode(trajectory, self.contract.action, start, self.contract.gripper.max_opening)

    def chunk(self, actions: FloatArray, **changes: object) -> ActionChunk:
        self.sequence += 1
        values = {
            "actions": actions,
            "period": self.contract.action.period,
            "observation_stamp": self.stamp,
            "specification": self.contract.action.fingerprint,
            "sequence": self.sequence,
        } | changes
        return ActionChunk(**values)

    def arm_start(self) -> ArmStart:
        return ArmStart(self.q.copy(), self.pose(), self.contract.gripper.max_opening)

    def joint_actions(self, rows: FloatArray, opening: float = 0.08) -> FloatArray:
        """Return the columns that ask for joint positions (k, n) rad, in the space of the contract."""
        rows, space = np.atleast_2d(rows), self.contract.action
        [arm] = space.arms
        wanted = ArmTrajectory(joint_positions=rows, openings=np.full(len(rows), opening))
        return encode_chunk({arm: wanted}, space, {arm: self.arm_start()})

    def ask_joints(self, goal: FloatArray, seconds: float | None = None, opening: float = 0.08) -> Reason:
        """Send a plan that brings the joints to `goal` (n,) in a time, by default at once, and holds it."""
        horizon, period = self.contract.action.horizon, self.contract.action.period
        times = period * np.arange(1, horizon + 1)
        fractions = np.minimum(times / max(seconds or period, period), 1.0)[:, None]
        return self.send(self.chunk(self.joint_actions(self.q + fractions * (goal - self.q), opening)))

    def send(self, chunk: ActionChunk) -> Reason:
        return self.supervisor.receive_chunk(chunk, self.arm_start(), self.now)

    def ask(self, position: FloatArray, rows: int = 12, opening: float = 0.08) -> Reason:
        """Send a plan that goes to `position` at once and stays there."""
        return self.send(self.chunk(self.actions(np.tile(position, (rows, 1)), opening)))

    def run_towards(self, position: FloatArray, ticks: int, opening: float = 0.08) -> SafetyDecision:
        """Ask for `position` ten times a second, for a while."""
        for i in range(ticks):
            if i % 10 == 0:
                assert self.ask(position, opening=opening) is Reason.OK
            decision = self.tick()
        return decision

    def start(self) -> None:
        """Arm, and run at the place where the arm is."""
        self.arm()
        decision = self.run_towards(self.pose().position, 21)
        assert decision.state is SafetyState.RUN


@dataclass
class Verdict:
    """Largest share of each limit that was used, over all joints: 1 is exactly at the limit."""

    velocity: float
    acceleration: float
    jerk: float
    outside_joints: float
    outside_workspace: float


@dataclass
class Referee:
    """Judges a sequence of joint commands by finite differences and by forward kinematics of its own."""

    contract: RobotContract
    _chain: list[tuple[FloatArray, FloatArray | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        root = ElementTree.parse(self.contract.urdf).getroot()
        by_child = {joint.find("child").get("link"): joint for joint in root.findall("joint")}
        link = self.contract.end_effector_frame
        while link in by_child:
            joint = by_child[link]
            origin = joint.find("origin")
            transform = np.eye(4)
            transform[:3, :3] = _rotation(np.array(origin.get("rpy").split(), float))
            transform[:3, 3] = np.array(origin.get("xyz").split(), float)
            moving = joint.get("name") in self.contract.joints.names
            axis = np.array(joint.find("axis").get("xyz").split(), float) if moving else None
            self._chain.insert(0, (transform, axis))
            link = joint.find("parent").get("link")

    def tool(self, q: FloatArray) -> FloatArray:
        """Position of the tool, by multiplying the transforms of the robot description."""
        total, angles = np.eye(4), iter(q)
        for transform, axis in self._chain:
            total = total @ transform
            if axis is not None:
                turn = np.eye(4)
                angle = next(angles)
                cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
                turn[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
                total = total @ turn
        return total[:3, 3]

    def judge(self, commands: list[FloatArray]) -> Verdict:
        joints, box = self.contract.joints, self.contract.cartesian
        q = np.array(commands)
        assert np.isfinite(q).all()
        q = np.vstack([np.tile(q[0], (3, 1)), q])  # it stood still before
        speed = np.diff(q, axis=0) / PERIOD
        acceleration = np.diff(speed, axis=0) / PERIOD
        jerk = np.diff(acceleration, axis=0) / PERIOD
        tools = np.array([self.tool(row) for row in q])
        return Verdict(
            float((np.abs(speed) / joints.velocity).max()),
            float((np.abs(acceleration) / joints.acceleration).max()),
            float((np.abs(jerk) / joints.jerk).max()),
            float(np.maximum(joints.lower - q, q - joints.upper).max()),
            float(np.maximum(box.workspace_lower - tools, tools - box.workspace_upper).max()),
        )

    def accept(self, commands: list[FloatArray], workspace: bool = True) -> None:
        verdict = self.judge(commands)
        assert verdict.velocity <= 1.0 + 1e-6, verdict
        assert verdict.acceleration <= 1.0 + 1e-6, verdict
        assert verdict.jerk <= 1.0 + 1e-6, verdict
        assert verdict.outside_joints <= 0.0, verdict
        assert verdict.outside_workspace <= 0.001 or not workspace, verdict


def _rotation(rpy: FloatArray) -> FloatArray:
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
