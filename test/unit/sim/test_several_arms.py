"""The workcell of a robot with two arms: each follows its own commands, and its own gripper opens and closes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pytest

from vla_ros.envs.env import TaskStatus
from vla_ros.envs.mujoco.cameras import Frame
from vla_ros.envs.mujoco.controller import TrajectoryPoint
from vla_ros.envs.mujoco.layout import GRASP_HEIGHT, plan_layout
from vla_ros.envs.mujoco.simulator import CONTROL_PERIOD, Command, Simulator, SimulatorOptions
from vla_ros.envs.registry import make_env
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.errors import SimulationError
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import RobotState

DEADLINE = 60.0
PAIR = load_contract("so101_pair")
HOME, N = PAIR.joints.home, 5
TOOLS = [Kinematics(PAIR.led_by(arm.name)) for arm in PAIR.arms]


def distance(tool: Kinematics, place: np.ndarray) -> float:
    """How near a tool comes to a place, whatever its orientation, m: the best of many descents."""
    rng, best = np.random.default_rng(0), np.inf
    for start in rng.uniform(PAIR.joints.lower, PAIR.joints.upper, (20, 2 * N)):
        q = start
        for _ in range(100):
            error = place - tool.placement(q).translation
            step = tool.jacobian(q)[:3].T @ error
            q = np.clip(q + 5.0 * step, PAIR.joints.lower, PAIR.joints.upper)
        best = min(best, float(np.linalg.norm(place - tool.placement(q).translation)))
    return best


@pytest.fixture(scope="module")
def cell() -> Iterator[TabletopEnv]:
    cell = make_env("pick", PAIR)
    yield cell
    cell.close()


def test_it_begins_at_home_with_open_grippers(cell: TabletopEnv) -> None:
    cell.reset(3)
    state = cell.state()
    assert np.abs(state.joint_positions - HOME).max() < 0.1
    assert state.gripper_openings == pytest.approx((0.09, 0.09), abs=2e-3)
    assert np.isnan(state.gripper_opening) and np.isnan(state.end_effector.position).all()
    for measured, tool in zip(cell.tool_positions, TOOLS, strict=True):
        assert measured == pytest.approx(tool.forward(state.joint_positions).position)
    assert cell.progress() >= 0.0


@pytest.mark.parametrize("arm", [0, 1])
def test_each_arm_and_gripper_follows_its_own_command(cell: TabletopEnv, arm: int) -> None:
    cell.reset(3)
    goal, openings = np.array(HOME), [0.09, 0.09]
    goal[N * arm + 4] += 0.5
    openings[arm] = 0.03
    cell.command(goal, openings)
    cell.step(2.0)
    state = cell.state()
    assert state.joint_positions == pytest.approx(goal, abs=0.02)
    assert state.gripper_openings == pytest.approx(openings, abs=5e-3)


@pytest.mark.parametrize("openings", [0.05, [0.05], [0.05, 0.05, 0.05], [0.05, np.nan]])
def test_a_command_needs_an_opening_for_each_gripper(cell: TabletopEnv, openings: float | list[float]) -> None:
    with pytest.raises(SimulationError, match="2 openings"):
        cell.command(HOME, openings)


def test_each_gripper_has_two_fingers(cell: TabletopEnv) -> None:
    owners: dict[int, set[str]] = {}
    for geom, finger in cell._finger_of_geom.items():
        owners.setdefault(finger, set()).add(cell.model.body(int(cell.model.geom_bodyid[geom])).name.split("_")[0])
    assert owners == {0: {"left"}, 1: {"left"}, 2: {"right"}, 3: {"right"}}


def test_objects_lie_where_one_of_the_arms_reaches_them() -> None:
    layout = plan_layout(PAIR, Kinematics(PAIR))
    x, y = layout.area(((0.38, 0.64), (-0.24, 0.24)))
    assert y[0] < -0.1 and y[1] > 0.1  # before both
    for corner in product(x, y):
        place = np.array([*corner, layout.top + GRASP_HEIGHT])
        assert min(distance(tool, place) for tool in TOOLS) < 0.011
    half, center = layout.table_half_size, layout.table_center
    for arm in PAIR.arms:
        assert center[1] - half[1] < arm.cartesian.workspace_lower[1]
        assert arm.cartesian.workspace_upper[1] < center[1] + half[1]


def test_each_wrist_camera_sees_what_is_before_its_tool(cell: TabletopEnv) -> None:
    cell.reset(3)
    for arm, tool in zip(("left", "right"), cell.tool_positions, strict=True):
        pixel = cell.project(f"{arm}_wrist", tool)
        assert pixel is not None and 0.0 <= pixel[0] < 320.0 and 0.0 <= pixel[1] < 240.0
        assert cell.render(f"{arm}_wrist").std() > 5.0


class Listener:
    """Hears the simulation, and lets a test wait for a state."""

    def __init__(self) -> None:
        self.change, self.states, self.warnings = threading.Condition(), list[RobotState](), list[str]()

    def clock(self, time: float) -> None: ...

    def state(self, state: RobotState) -> None:
        with self.change:
            self.states.append(state)
            self.change.notify_all()

    def frames(self, frames: Sequence[Frame]) -> None: ...

    def status(self, status: TaskStatus, instruction: str, time: float) -> None: ...

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def failed(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def next_after(self, stamp: float) -> RobotState:
        with self.change:
            assert self.change.wait_for(lambda: self.states and self.states[-1].stamp > stamp, DEADLINE), self.warnings
            return self.states[-1]


def test_lock_step_goes_on_with_the_commands_of_both_arms() -> None:
    listener = Listener()
    small = {camera.name: (24, 32) for camera in PAIR.cameras}
    simulator = Simulator(PAIR, SimulatorOptions(seed=2, lockstep=True, camera_sizes=small), listener)
    try:
        simulator.run()
        state = listener.next_after(0.0)
        start, stamp = state.joint_positions, state.stamp
        for tick in range(1, 31):
            for number, (arm, side) in enumerate(zip(PAIR.arms, (1.0, -1.0), strict=True)):
                goal = start[PAIR.joint_columns(arm.name)] + side * 0.005 * tick * np.eye(N)[4]
                fingers = (TrajectoryPoint(np.array(arm.gripper.joint_positions(0.09 - 0.03 * number)), 0.2),)
                simulator.command_gripper(Command(arm.gripper.names, fingers, stamp), number)
                point = TrajectoryPoint(goal, CONTROL_PERIOD)
                simulator.command_arm(Command(arm.joints.names, (point,), stamp), number)
            state = listener.next_after(stamp)
            assert state.stamp == pytest.approx(stamp + CONTROL_PERIOD)
            stamp = state.stamp
    finally:
        simulator.close()
    turned = state.joint_positions - start
    assert turned[4] > 0.05 and turned[9] < -0.05
    assert state.gripper_openings[0] == pytest.approx(0.09, abs=5e-3) and state.gripper_openings[1] < 0.085
    assert listener.warnings == []
