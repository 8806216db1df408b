"""How chunks follow each other: what is frozen, what is blended, which mode is chosen, what is never carried over."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, decode_chunk, encode_chunk
from vla_ros.errors import CheckpointError, ChunkError, ContractError
from vla_ros.policies.asynchronous import InferenceWorker
from vla_ros.policies.build import load_executor
from vla_ros.policies.conversion import ResampledPolicy
from vla_ros.policies.execution.delay import ENOUGH, MAX_DELAY, WINDOW, DelayMeter
from vla_ros.policies.execution.executor import ChunkExecutor
from vla_ros.policies.execution.plan import LOOK_BACK, NEAR_METERS, soft_mask
from vla_ros.policies.execution.settings import ExecutionSettings, Mode, read_execution
from vla_ros.policies.protocol import Policy, Prefix, PrefixPolicy
from vla_ros.policies.registry import find_policy
from vla_ros.robot.contract import load_contract
from vla_ros.types import ActionChunk, FloatArray, Instruction, Observation, Pose, RobotState

CONTRACT = load_contract("panda")
SPACE = CONTRACT.action
PERIOD, ROWS = SPACE.period, SPACE.horizon
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
HERE = np.array([0.5, 0.0, 0.3])
RED = Instruction("pick up the red cube", 1)


def observation(stamp: float, position: FloatArray = HERE) -> Observation:
    state = RobotState(CONTRACT.joints.home, np.zeros(7), 0.08, Pose(position, DOWN), stamp)
    return Observation({}, state, RED, stamp, sequence=int(stamp / PERIOD))


def start_of(seen: Observation) -> dict[str, ArmStart]:
    return {"arm": ArmStart(seen.state.joint_positions, seen.state.end_effector, 0.08)}


class LinePolicy:
    """Moves the tool from where it is at a velocity that a test chooses, and closes the gripper on demand."""

    name, device = "line", "cpu"
    image_sizes: Mapping[str, tuple[int, int]] = MappingProxyType({})

    def __init__(self, space=SPACE) -> None:
        self.specification = space
        self.velocity, self.opening = np.array([0.1, 0.0, 0.0]), 0.08

    def reset(self, instruction: Instruction) -> None:
        self.instruction = instruction

    def predict(self, seen: Observation) -> ActionChunk:
        space = self.specification
        times = space.period * np.arange(1, space.horizon + 1)[:, None]
        positions = seen.state.end_effector.position + times * self.velocity
        wanted = ArmTrajectory(None, positions, np.tile(DOWN, (len(times), 1)), np.full(len(times), self.opening))
        rows = encode_chunk({"arm": wanted}, space, start_of(seen))
        return ActionChunk(rows, space.period, seen.stamp, space.fingerprint)


class GuidedLinePolicy(LinePolicy):
    """The same, and it keeps what it was told of the plan under way."""

    accepts_prefix = True

    def predict_from(self, seen: Observation, prefix: Prefix) -> ActionChunk:
        self.prefix = prefix
        return self.predict(seen)


def positions(chunk: ActionChunk, seen: Observation) -> FloatArray:
    return decode_chunk(chunk.actions, SPACE, start_of(seen))["arm"].positions


def carry_out(executor: ChunkExecutor, delays: list[float]) -> None:
    for number, delay in enumerate(delays):
        chunk = executor.predict(observation(0.5 * number))
        executor.delivered(chunk, delay)


def executor_of(mode: Mode, policy: Policy | None = None, delay: float = 0.25, **lines) -> ChunkExecutor:
    """An executor with one delivered chunk, of stamp 1.0, whose delays have been measured."""
    executor = ChunkExecutor(policy or LinePolicy(), CONTRACT, ExecutionSettings(mode, **lines))
    executor.reset(RED)
    executor.delivered(executor.predict(observation(1.0)), delay)
    for _ in range(ENOUGH - 1):
        executor._meter.record(delay)
    return executor


# Which mode is chosen.


def test_mode_is_synchronous_until_the_delay_is_measured_and_while_it_is_short():
    executor = ChunkExecutor(LinePolicy(), CONTRACT)
    assert executor.execution.mode is Mode.SYNCHRONOUS
    assert "not measured yet" in executor.execution.sentence
    carry_out(executor, [0.04] * 5)
    executor.predict(observation(9.0))
    assert executor.execution.mode is Mode.SYNCHRONOUS
    assert "within a row of 100 ms (40 ms a chunk, jitter 0 ms)" in executor.execution.sentence


@pytest.mark.parametrize(
    ("policy", "mode"), [(LinePolicy(), Mode.ASYNCHRONOUS), (GuidedLinePolicy(), Mode.REAL_TIME_CHUNKING)]
)
def test_mode_follows_the_measured_delay_and_what_the_policy_can(policy, mode):
    executor = ChunkExecutor(policy, CONTRACT)
    carry_out(executor, [0.3, 0.34, 0.3])
    executor.predict(observation(9.0))
    assert executor.execution.mode is mode
    assert executor.execution.delay.median == pytest.approx(0.3)
    assert executor.execution.delay.jitter == pytest.approx(0.04)
    assert "300 ms a chunk, jitter 40 ms" in executor.describe()


def test_mode_does_not_change_to_and_fro():
    executor = ChunkExecutor(LinePolicy(), CONTRACT)
    modes = []
    for number, delay in enumerate([0.12, 0.12, 0.12, *[0.09] * WINDOW, *[0.09] * 3]):
        chunk = executor.predict(observation(0.5 * number))
        executor.delivered(chunk, delay)
        modes.append(executor.execution.mode)
    changes = [number for number in range(1, len(modes)) if modes[number] is not modes[number - 1]]
    assert changes == [ENOUGH, ENOUGH + WINDOW]  # back when no chunk of the window was late


def test_mode_that_was_asked_for_is_kept_and_what_it_cannot_do_is_said():
    executor = ChunkExecutor(LinePolicy(), CONTRACT, ExecutionSettings(Mode.REAL_TIME_CHUNKING))
    assert executor.execution.mode is Mode.REAL_TIME_CHUNKING
    assert "accepts no prefix, so its rows are blended" in executor.describe()


# What becomes of the rows.


def test_synchronous_chunk_is_the_policys_own():
    executor = executor_of(Mode.SYNCHRONOUS)
    chunk = executor.predict(observation(1.3))
    assert np.array_equal(chunk.actions, executor.policy.predict(observation(1.3)).actions)


def test_rows_that_are_carried_out_meanwhile_are_those_of_the_plan_under_way():
    executor = executor_of(Mode.ASYNCHRONOUS, delay=0.25)
    executor.policy.velocity = np.array([0.0, 0.1, 0.0])  # the policy changes its mind
    seen = observation(1.3, HERE + np.array([0.03, 0.0, 0.0]))  # where the plan has the tool by now
    found = positions(executor.predict(seen), seen)
    assert executor.execution.frozen == 3  # rows that begin within 0.25 s
    for row in range(3):
        assert found[row] == pytest.approx(HERE + np.array([0.1 * (0.3 + 0.1 * (row + 1)), 0.0, 0.0]))
    own = positions(executor.policy.predict(seen), seen)
    assert found[-3:] == pytest.approx(own[-3:])  # behind the overlap the new chunk alone counts
    steps = np.diff(found, axis=0) / PERIOD
    jump = np.linalg.norm(own[3] - found[2]) / PERIOD  # where the new chunk simply replaces the old one
    assert np.linalg.norm(np.diff(steps, axis=0), axis=1).max() < 0.5 * jump


def test_plan_under_way_is_read_between_its_rows():
    executor = executor_of(Mode.ASYNCHRONOUS, delay=0.25)
    seen = observation(1.337, HERE + np.array([0.0337, 0.0, 0.0]))
    assert positions(executor.predict(seen), seen)[0] == pytest.approx(HERE + np.array([0.0437, 0.0, 0.0]))


def test_gripper_does_the_old_or_the_new_never_between():
    executor = executor_of(Mode.ASYNCHRONOUS, delay=0.25)
    executor.policy.opening = 0.0
    seen = observation(1.3, HERE + np.array([0.03, 0.0, 0.0]))
    column = executor.predict(seen).actions[:, -1]
    assert set(np.round(column, 9)) == {0.0, 1.0}
    assert np.array_equal(np.sort(column)[::-1], column)
    assert column[2] == pytest.approx(1.0)


def test_prefix_has_the_plan_under_way_and_its_weights():
    policy = GuidedLinePolicy()
    executor = executor_of(Mode.REAL_TIME_CHUNKING, policy, delay=0.25)
    seen = observation(1.4, HERE + np.array([0.04, 0.0, 0.0]))
    executor.predict(seen)
    rows = decode_chunk(policy.prefix.actions, SPACE, start_of(seen))["arm"].positions
    assert len(rows) == ROWS - 4
    assert rows == pytest.approx(HERE + np.arange(5, ROWS + 1)[:, None] * [0.01, 0.0, 0.0])
    assert np.array_equal(policy.prefix.weights, soft_mask(3, ROWS - 4, ROWS))


def test_weights_of_a_prefix_are_those_of_the_paper():
    weights = soft_mask(frozen=3, left=8, horizon=12)
    assert np.array_equal(weights[:3], np.ones(3))
    c = np.array([(8 - i) / (8 - 3 + 1) for i in range(3, 8)])
    assert weights[3:] == pytest.approx(c * (np.exp(c) - 1.0) / (math.e - 1.0))
    assert len(weights) == 8
    assert len(soft_mask(0, 20, 12)) == 12


def test_ensembling_is_the_weighted_mean_of_the_chunks_that_have_the_row():
    executor = ChunkExecutor(LinePolicy(), CONTRACT, ExecutionSettings(Mode.ENSEMBLING, decay=0.5))
    executor.reset(RED)
    executor.delivered(executor.predict(observation(1.0)), 0.0)
    executor.policy.velocity = np.array([0.1, 0.06, 0.0])
    seen = observation(1.1, HERE + np.array([0.01, 0.0, 0.0]))
    found = positions(executor.predict(seen), seen)
    new = 1.0 / (1.0 + math.exp(0.5))  # the older chunk weighs 1, the newer exp(-0.5)
    sideways = 0.006 * np.arange(1, ROWS + 1) * new
    assert found[4:-1, 1] == pytest.approx(sideways[4:-1])
    assert found[-1, 1] == pytest.approx(0.006 * ROWS)  # the older chunk has no such row


def test_rows_of_execute_come_before_the_next_inference():
    executor = ChunkExecutor(LinePolicy(), CONTRACT, ExecutionSettings(Mode.SYNCHRONOUS, execute=4))
    executor.reset(RED)
    assert executor.is_due(1.0)
    executor.delivered(executor.predict(observation(1.0)), 0.2)
    assert not executor.is_due(1.5)
    assert executor.is_due(1.56)
    assert executor.predict(observation(1.6)).horizon == 2 + 4  # what passes meanwhile, and what is carried out
    executor.reset(RED)
    assert executor.is_due(1.0)


# What is never carried over.

AWAY = {
    "the tool is elsewhere": HERE + np.array([0.0, 0.05, 0.0]),
    "the tool is nowhere": np.full(3, np.nan),
}


@pytest.mark.parametrize("case", AWAY)
def test_nothing_is_carried_over_when_the_arm_does_not_follow(case):
    executor = executor_of(Mode.ASYNCHRONOUS, delay=0.25)
    made = observation(1.3)
    executor.predict(made)
    assert executor.execution.frozen == 3
    state = replace(made.state, end_effector=Pose(AWAY[case], DOWN))
    assert executor._going_on(replace(made, state=state)) is None


def test_nothing_is_carried_over_when_the_arm_is_held():
    executor = executor_of(Mode.ASYNCHRONOUS, delay=0.25)
    for number in range(1, 10):  # the plans go on, the arm does not
        seen = observation(1.0 + 0.1 * number)
        chunk = executor.predict(seen)
        executor.delivered(chunk, 0.25)
        away = np.linalg.norm(positions(chunk, seen)[0] - HERE)
        assert away <= NEAR_METERS + 0.1 * LOOK_BACK + 0.01, number  # at 0.1 m/s, and a row


def test_nothing_is_carried_over_to_another_instruction():
    executor = executor_of(Mode.ASYNCHRONOUS, delay=0.25)
    executor.reset(Instruction("pick up the blue ball", 2))
    executor.predict(observation(1.3))
    assert executor.execution.frozen == 0


@pytest.mark.parametrize("delay", [math.nan, math.inf, -1.0, 2.0 * MAX_DELAY])
def test_delay_that_makes_no_sense_is_forgotten_with_the_plan(delay):
    with pytest.raises(ChunkError, match="expected 0 to 60"):
        DelayMeter().record(delay)
    executor = executor_of(Mode.AUTO, delay=0.25)
    executor.delivered(executor.predict(observation(1.2)), delay)
    chunk = executor.predict(observation(1.3))
    assert executor.execution.mode is Mode.SYNCHRONOUS
    assert np.array_equal(chunk.actions, executor.policy.predict(observation(1.3)).actions)


def test_plan_that_has_run_out_is_not_carried_over():
    executor = executor_of(Mode.ASYNCHRONOUS, delay=0.25)
    executor.predict(observation(3.0))
    assert executor.execution.frozen == 0


def test_arm_at_rest_waits_for_its_chunk_and_a_moving_one_does_not():
    executor = executor_of(Mode.ASYNCHRONOUS, delay=0.25)
    executor.reset(RED)
    seen = observation(3.0)
    own, found = positions(executor.policy.predict(seen), seen), positions(executor.predict(seen), seen)
    assert found[:3] == pytest.approx(np.tile(HERE, (3, 1)))  # rows that pass until it arrives
    assert found[3:] == pytest.approx(own[:-3])
    for velocity in (0.1, np.nan):
        state = replace(seen.state, joint_velocities=np.full(7, velocity))
        moving = replace(seen, state=state)
        executor.reset(RED)
        assert positions(executor.predict(moving), moving) == pytest.approx(own)


def test_chunk_that_was_never_delivered_is_not_the_plan_under_way():
    executor = ChunkExecutor(LinePolicy(), CONTRACT, ExecutionSettings(Mode.ASYNCHRONOUS))
    executor.reset(RED)
    executor.predict(observation(1.0))
    executor.predict(observation(1.1))
    assert executor.execution.frozen == 0


def test_wrong_prefix_is_refused():
    for actions, weights in [
        (np.zeros((3, 7)), np.zeros(2)),
        (np.zeros(7), np.zeros(7)),
        (np.full((3, 7), np.nan), np.zeros(3)),
        (np.zeros((3, 7)), np.array([0.0, 1.1, 0.0])),
        (np.zeros((3, 7)), np.array([0.0, np.nan, 0.0])),
    ]:
        with pytest.raises(ChunkError, match="prefix"):
            Prefix(actions, weights)


# In the worker.


def test_worker_measures_the_delay_by_the_clock_of_the_stamps():
    done = threading.Event()
    executor = ChunkExecutor(LinePolicy(), CONTRACT)
    worker = InferenceWorker(executor, lambda chunk: None, done.set, clock=lambda: 7.25)
    worker.instruct(RED)
    worker.offer(observation(7.0))
    assert done.wait(10.0)
    assert worker.close(10.0)
    assert executor._meter.delay.longest == pytest.approx(0.25)


def test_worker_says_how_chunks_follow_each_other():
    executor = ChunkExecutor(LinePolicy(), CONTRACT)
    worker = InferenceWorker(executor, lambda chunk: None, stale_after=100.0)
    worker.offer(observation(7.0))
    worker.instruct(RED)
    assert "works on 'pick up the red cube'; synchronous: " in worker.status().sentence
    assert worker.close(10.0)


def test_worker_leaves_observations_that_are_not_due():
    class Counting(LinePolicy):
        seen: list[float] = []  # noqa: RUF012 (one test)
        done = threading.Semaphore(0)

        def predict(self, seen: Observation) -> ActionChunk:
            self.seen.append(seen.stamp)
            return super().predict(seen)

    policy = Counting()
    executor = ChunkExecutor(policy, CONTRACT, ExecutionSettings(Mode.SYNCHRONOUS, execute=4))
    worker = InferenceWorker(executor, lambda chunk: None, policy.done.release, clock=lambda: 1.0, stale_after=100.0)
    worker.instruct(RED)
    for stamp, due in [(1.0, True), (1.1, False), (1.2, False), (1.36, True)]:
        worker.offer(observation(stamp))
        if due:
            assert policy.done.acquire(timeout=10.0)
    assert policy.seen == [1.0, 1.36]
    assert worker.status().dropped_observations == 0
    assert worker.close(10.0)


# In a policy's file.


def test_policy_file_says_how_chunks_follow_each_other(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "kind: checkpoint\nfolder: checkpoints/pick\ndevice: cpu\nexecution: {mode: ensembling, decay: 0.1}\n"
    )
    assert find_policy(str(file)).execution == ExecutionSettings(Mode.ENSEMBLING, decay=0.1)
    assert load_executor(str(file), CONTRACT, "cpu").execution.mode is Mode.ENSEMBLING
    asked = load_executor(str(file), CONTRACT, "cpu", execution="asynchronous")
    assert (asked.execution.mode, asked.settings.decay) == (Mode.ASYNCHRONOUS, 0.1)


WRONG = {
    "mode": ({"mode": "rtc"}, "execution.mode is 'rtc', expected one of auto, synchronous"),
    "rows": ({"execute": -1}, "execution.execute is -1, expected rows, 0 to 1024"),
    "whole rows": ({"overlap": 1.5}, "execution.overlap is 1.5"),
    "decay": ({"decay": math.nan}, "execution.decay is nan"),
    "unknown": ({"horizon": 8}, r"execution: unknown \['horizon'\]"),
    "no mapping": ("fast", "execution is 'fast', expected lines mode"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_lines_of_execution_are_named(case: str, tmp_path: Path):
    values, says = WRONG[case]
    with pytest.raises(ContractError, match=says):
        read_execution(values)
    text = f"kind: checkpoint\nfolder: checkpoints/pick\nexecution: {values}\n".replace("nan", ".nan")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(CheckpointError, match="execution"):
        find_policy(str(tmp_path / "mine.yaml"))


# At another rate.

FAST = replace(SPACE, rate_hz=30.0, horizon=50)


def test_policy_of_another_rate_is_resampled():
    policy = ResampledPolicy(LinePolicy(FAST), CONTRACT)
    assert isinstance(policy, Policy)
    seen = observation(1.0)
    chunk = policy.predict(seen)
    assert (chunk.horizon, chunk.period, chunk.specification) == (ROWS, PERIOD, SPACE.fingerprint)
    assert positions(chunk, seen) == pytest.approx(HERE + np.arange(1, ROWS + 1)[:, None] * [0.01, 0.0, 0.0])
    assert not policy.accepts_prefix


def test_prefix_reaches_a_policy_of_another_rate_at_its_own():
    inner = GuidedLinePolicy(FAST)
    policy = ResampledPolicy(inner, CONTRACT)
    assert isinstance(policy, PrefixPolicy)
    assert policy.accepts_prefix
    seen = observation(1.0)
    rows = LinePolicy().predict(seen).actions[:4]
    chunk = policy.predict_from(seen, Prefix(rows, np.array([1.0, 1.0, 0.5, 0.25])))
    assert chunk.horizon == ROWS
    assert np.array_equal(inner.prefix.weights, np.repeat([1.0, 1.0, 0.5, 0.25], 3))
    found = decode_chunk(inner.prefix.actions, FAST, start_of(seen))["arm"].positions
    assert found == pytest.approx(HERE + np.arange(1, 13)[:, None] * [0.1 / 30.0, 0.0, 0.0])
