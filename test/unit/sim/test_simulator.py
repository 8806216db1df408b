"""The simulation over time: lock step repeats bit for bit, real time keeps its promises about order and stamps."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from vla_ros.envs.env import TaskStatus
from vla_ros.envs.mujoco.cameras import Frame
from vla_ros.envs.mujoco.clock_slip import LONGEST
from vla_ros.envs.mujoco.controller import TrajectoryPoint
from vla_ros.envs.mujoco.simulator import CONTROL_PERIOD, Command, Simulator, SimulatorOptions
from vla_ros.errors import SimulationError
from vla_ros.robot.contract import load_contract
from vla_ros.types import RobotState

DEADLINE = 60.0
CONTRACT = load_contract("panda")


class Recorder:
    """Listens, hashes all that it hears, and lets a test wait for a number of states."""

    def __init__(self) -> None:
        self.change = threading.Condition()
        self.states: list[RobotState] = []
        self.frame_stamps: list[tuple[str, float]] = []
        self.verdicts: list[tuple[TaskStatus, str]] = []
        self.warnings: list[str] = []
        self.order: list[tuple[str, float]] = []
        self.hash = hashlib.sha256()
        self.answer = lambda state: None

    def clock(self, time: float) -> None:
        self.order.append(("clock", time))

    def state(self, state: RobotState) -> None:
        self.order.append(("state", state.stamp))
        for part in (state.stamp, state.joint_positions, state.joint_velocities, state.gripper_opening):
            self.hash.update(np.asarray(part).tobytes())
        with self.change:
            self.states.append(state)
            self.change.notify_all()
        self.answer(state)

    def frames(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self.order.append((frame.camera, frame.time))
            self.frame_stamps.append((frame.camera, frame.time))
            self.hash.update(frame.camera.encode() + frame.image.tobytes())
        with self.change:
            self.change.notify_all()

    def status(self, status: TaskStatus, instruction: str, time: float) -> None:
        self.verdicts.append((status, instruction))

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def failed(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def wait_for_states(self, count: int) -> None:
        with self.change:
            assert self.change.wait_for(lambda: len(self.states) >= count, DEADLINE), self.warnings


def swing(state: RobotState) -> np.ndarray:
    """Joint reference that a fixed driver asks for: a slow sine about home, (7,) rad."""
    return CONTRACT.joints.home + 0.2 * np.sin(2.0 * state.stamp + np.arange(7))


def lockstep_run(seed: int, ticks: int) -> tuple[str, Recorder]:
    """Drive the simulation in lock step for a number of control periods; returns the hash of all that it said."""
    recorder = Recorder()
    simulator = Simulator(CONTRACT, SimulatorOptions(seed=seed, lockstep=True), recorder)

    def answer(state: RobotState) -> None:
        if len(recorder.states) > ticks:
            return  # the answer to the last one stays out, so that time stands still for the comparison
        point = TrajectoryPoint(swing(state), CONTROL_PERIOD)
        recorder.hash.update(point.positions.tobytes())
        simulator.command_gripper(Command(CONTRACT.gripper.names, (TrajectoryPoint([0.01, 0.01], 0.2),), state.stamp))
        simulator.command_arm(Command(CONTRACT.joints.names, (point,), state.stamp))

    recorder.answer = answer
    simulator.run()
    recorder.wait_for_states(ticks + 1)
    simulator.close()
    return recorder.hash.hexdigest(), recorder


def test_one_seed_repeats_bit_for_bit() -> None:
    first, recorder = lockstep_run(seed=5, ticks=40)
    second, _ = lockstep_run(seed=5, ticks=40)
    other, _ = lockstep_run(seed=6, ticks=40)
    assert first == second
    assert first != other
    moved = recorder.states[40].joint_positions - recorder.states[0].joint_positions
    assert np.abs(moved).max() > 0.02  # the driver drove
    assert recorder.states[40].gripper_opening < recorder.states[0].gripper_opening - 0.02


def test_lockstep_shows_state_then_frames_and_goes_on_only_after_both() -> None:
    _, recorder = lockstep_run(seed=5, ticks=21)
    expected: list[tuple[str, float]] = []
    for tick in range(22):
        stamp = (tick + 1) * CONTROL_PERIOD
        cameras = [("front", stamp), ("wrist", stamp)] if tick % 10 == 0 else []
        expected += [("clock", stamp), ("state", stamp), *cameras]
    heard = recorder.order[: len(expected)]
    assert [name for name, _ in heard] == [name for name, _ in expected]
    np.testing.assert_allclose([t for _, t in heard], [t for _, t in expected], atol=1e-9)


def test_lockstep_waits_for_the_chunk_of_the_newest_frames() -> None:
    recorder = Recorder()
    simulator = Simulator(CONTRACT, SimulatorOptions(lockstep=True), recorder)
    answered: list[float] = []
    too_early: list[float] = []

    def answer(state: RobotState) -> None:
        frames = [time for _, time in recorder.frame_stamps if time < state.stamp]
        if frames and frames[-1] not in answered:
            too_early.append(state.stamp)
        point = TrajectoryPoint(CONTRACT.joints.home, CONTROL_PERIOD)
        simulator.command_gripper(Command(CONTRACT.gripper.names, (TrajectoryPoint([0.04, 0.04], 0.1),), state.stamp))
        simulator.command_arm(Command(CONTRACT.joints.names, (point,), state.stamp))

    recorder.answer = answer
    try:
        simulator.follow_instruction(simulator.reset(3, None)[0])
        simulator.run()
        for count in range(1, 6):
            with recorder.change:
                assert recorder.change.wait_for(lambda: len(recorder.frame_stamps) >= 2 * count, DEADLINE)  # noqa: B023
            time.sleep(0.02)  # the latency of the policy: a simulator that does not wait goes on meanwhile
            answered.append(recorder.frame_stamps[2 * count - 1][1])
            simulator.chunk_arrived(answered[-1])
            simulator.policy_spoke(count, fault=False)
        recorder.wait_for_states(45)
    finally:
        simulator.close()
    assert too_early == []


def test_lockstep_stands_still_without_a_command() -> None:
    recorder = Recorder()
    simulator = Simulator(CONTRACT, SimulatorOptions(lockstep=True), recorder)
    simulator.run()
    recorder.wait_for_states(3)  # said again, for whoever joined late
    simulator.close()
    assert [state.stamp for state in recorder.states] == [CONTROL_PERIOD] * len(recorder.states)


def test_real_time_stamps_rise_by_one_period_and_hold_without_commands() -> None:
    recorder = Recorder()
    simulator = Simulator(CONTRACT, SimulatorOptions(seed=1, camera_rates={"front": 30.0}), recorder)
    simulator.run()
    recorder.wait_for_states(70)
    simulator.close()
    stamps = np.array([state.stamp for state in recorder.states])
    np.testing.assert_allclose(np.diff(stamps), CONTROL_PERIOD, atol=1e-9)
    drift = recorder.states[-1].joint_positions - recorder.states[0].joint_positions
    assert np.abs(drift).max() < 1e-3
    front = [time for camera, time in recorder.frame_stamps if camera == "front"]
    np.testing.assert_allclose(np.mod(np.array(front) + 1e-9, CONTROL_PERIOD), 0.0, atol=1e-6)
    assert recorder.warnings == []


def test_a_command_moves_the_arm_and_silence_stops_it() -> None:
    recorder = Recorder()
    simulator = Simulator(CONTRACT, SimulatorOptions(seed=1), recorder)
    simulator.run()
    recorder.wait_for_states(5)
    start = recorder.states[-1].joint_positions
    goal = start + np.array([0.8, 0, 0, 0, 0, 0, 0])
    simulator.command_arm(Command(CONTRACT.joints.names, (TrajectoryPoint(goal, 2.0),), None))
    recorder.wait_for_states(len(recorder.states) + 80)
    simulator.close()
    moved = recorder.states[-1].joint_positions[0] - start[0]
    # 0.4 rad/s for the time-out of 0.2 s, and not one moment longer
    assert moved == pytest.approx(0.4 * CONTRACT.controllers.command_timeout, abs=0.01)
    assert np.abs(recorder.states[-1].joint_velocities).max() < 0.02


def test_a_time_of_the_machine_is_a_time_of_the_simulation() -> None:
    """What is stamped with the time at which a state was said is of that state, as far as this machine keeps time."""
    recorder = Recorder()
    simulator = Simulator(CONTRACT, SimulatorOptions(seed=1), recorder)
    simulator.run()
    found = []
    for count in range(5, 30, 5):
        recorder.wait_for_states(count)
        found.append(simulator.time_of(time.time()) - recorder.states[-1].stamp)
    simulator.close()
    assert min(map(abs, found)) < LONGEST + 2 * CONTROL_PERIOD
    assert simulator.time_of(time.time() + 1.0) - simulator.time_of(time.time()) == pytest.approx(1.0, abs=0.1)


def test_bad_commands_are_refused_with_a_sentence_and_change_nothing() -> None:
    recorder = Recorder()
    simulator = Simulator(CONTRACT, SimulatorOptions(seed=1), recorder)
    simulator.run()
    recorder.wait_for_states(5)
    before = recorder.states[-1].joint_positions
    simulator.command_arm(Command(CONTRACT.joints.names[:-1], (TrajectoryPoint(np.zeros(6), 0.1),), None))
    recorder.wait_for_states(len(recorder.states) + 20)
    simulator.command_arm(Command(CONTRACT.joints.names, (TrajectoryPoint(np.zeros(7), 0.1),), 1.7e9))
    recorder.wait_for_states(len(recorder.states) + 20)
    simulator.close()
    assert np.abs(recorder.states[-1].joint_positions - before).max() < 1e-3
    assert len(recorder.warnings) == 2
    assert "panda_joint7" in recorder.warnings[0]
    assert "simulation time" in recorder.warnings[1]


def test_reset_makes_the_scene_of_the_seed_and_time_goes_on() -> None:
    recorder = Recorder()
    simulator = Simulator(CONTRACT, SimulatorOptions(seed=1), recorder)
    simulator.run()
    recorder.wait_for_states(10)
    instruction, objects = simulator.reset(9, "pick up the blue ball")
    assert instruction == "pick up the blue ball"
    assert "blue ball" in objects
    assert simulator.reset(9, "pick up the blue ball") == (instruction, objects)
    with pytest.raises(SimulationError, match="purple"):
        simulator.reset(9, "pick up the purple elephant")
    recorder.wait_for_states(len(recorder.states) + 5)
    simulator.close()
    stamps = [state.stamp for state in recorder.states]
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))


def test_a_reset_is_done_when_the_new_state_has_been_said() -> None:
    recorder = Recorder()
    simulator = Simulator(CONTRACT, SimulatorOptions(seed=1), recorder)
    simulator.run()
    recorder.wait_for_states(3)
    old = recorder.states[-1].joint_positions
    for seed in (2, 3, 4):
        simulator.reset(seed, None)
        latest = [state.joint_positions for state in recorder.states[-3:]]
        assert all(np.abs(positions - old).max() > 1e-3 for positions in latest)
        assert np.abs(latest[0] - latest[2]).max() < 1e-3
        old = latest[-1]
    simulator.close()


def test_the_judge_follows_a_new_instruction_and_refuses_nonsense() -> None:
    recorder = Recorder()
    simulator = Simulator(CONTRACT, SimulatorOptions(seed=2), recorder)
    _, objects = simulator.reset(2, None)
    simulator.run()
    simulator.follow_instruction(f"pick up the {objects[2]}")
    simulator.follow_instruction("pick up the moon")
    recorder.wait_for_states(15)
    simulator.close()
    assert recorder.verdicts[-1][1] == f"pick up the {objects[2]}"
    assert not recorder.verdicts[-1][0].success
    assert len(recorder.warnings) == 1
    assert "moon" in recorder.warnings[0]
