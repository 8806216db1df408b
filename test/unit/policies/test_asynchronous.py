"""The inference worker: newest wins, old work is dropped, and nothing that a policy does wrong gets out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import pytest

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import InstructionError
from vla_ros.policies.asynchronous import InferenceWorker, WorkerState
from vla_ros.policies.protocol import Policy
from vla_ros.robot.contract import load_contract
from vla_ros.types import ActionChunk, Instruction, InstructionKind, Observation, Pose, RobotState

DEADLINE = 10.0
SPECIFICATION: ActionSpace = load_contract("panda").action
POSE = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
RED, BLUE = Instruction("pick up the red cube", 1), Instruction("pick up the blue ball", 2)
STOP = Instruction("stop", 3, InstructionKind.STOP)


def observation(sequence: int) -> Observation:
    state = RobotState(np.zeros(7), np.zeros(7), 0.08, POSE, 0.1 * sequence)
    return Observation({}, state, None, stamp=0.1 * sequence, sequence=sequence)


class GatedPolicy:
    """Predicts when it is let: a test opens the gate for one prediction at a time, or for all."""

    name = "gated"
    specification = SPECIFICATION
    device = "cpu"
    image_sizes: Mapping[str, tuple[int, int]] = MappingProxyType({})

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.entered = threading.Event()
        self.resets: list[Instruction] = []
        self.seen: list[Observation] = []
        self.result: Callable[[Observation], ActionChunk] = self.good

    def good(self, observation: Observation) -> ActionChunk:
        actions = np.zeros((SPECIFICATION.horizon, SPECIFICATION.width))
        return ActionChunk(actions, SPECIFICATION.period, 0.0, SPECIFICATION.fingerprint, trust=0.5)

    def reset(self, instruction: Instruction) -> None:
        if "elephant" in instruction.text:
            raise InstructionError(f"'{instruction.text}': I do not know elephants")
        self.resets.append(instruction)

    def predict(self, observation: Observation) -> ActionChunk:
        self.seen.append(observation)
        self.entered.set()
        assert self.gate.acquire(timeout=DEADLINE)
        return self.result(observation)


class Bench:
    """A worker, its policy, and the chunks that it published."""

    def __init__(self, stale_after: float = 30.0) -> None:
        self.change = threading.Condition()
        self.chunks: list[ActionChunk] = []
        self.policy = GatedPolicy()
        self.worker = InferenceWorker(self.policy, self._take, stale_after=stale_after, hung_after=0.2)

    def _take(self, chunk: ActionChunk) -> None:
        with self.change:
            self.chunks.append(chunk)
            self.change.notify_all()

    def wait_for_chunks(self, count: int) -> None:
        with self.change:
            assert self.change.wait_for(lambda: len(self.chunks) >= count, DEADLINE), self.worker.status()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, self.worker.status()
            time.sleep(0.002)

    def enter(self, sequence: int) -> None:
        """Offer an observation and wait until the policy computes on it."""
        self.policy.entered.clear()
        self.worker.offer(observation(sequence))
        assert self.policy.entered.wait(DEADLINE)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for _ in range(20):
        bench.policy.gate.release()
    assert bench.worker.close(DEADLINE)


def test_the_policy_of_the_bench_is_a_policy(bench: Bench) -> None:
    assert isinstance(bench.policy, Policy)


def test_nothing_happens_without_an_instruction(bench: Bench) -> None:
    for sequence in range(5):
        bench.worker.offer(observation(sequence))
    status = bench.worker.status()
    assert status.state is WorkerState.IDLE
    assert (status.inferences, status.dropped_observations, status.instruction_sequence) == (0, 0, 0)
    assert not bench.policy.seen


def test_a_chunk_carries_where_it_came_from(bench: Bench) -> None:
    bench.worker.instruct(RED)
    for sequence in (7, 8):
        bench.policy.gate.release()
        bench.enter(sequence)
        bench.wait_for_chunks(sequence - 6)
    chunk = bench.chunks[1]
    assert chunk.observation_sequence == 8
    assert chunk.observation_stamp == pytest.approx(0.8)
    assert (chunk.instruction_sequence, chunk.sequence, chunk.policy, chunk.trust) == (1, 2, "gated", 0.5)
    assert bench.policy.resets == [RED]
    assert bench.policy.seen[0].instruction == RED
    status = bench.worker.status()
    assert (status.state, status.inferences, status.trust) == (WorkerState.RUNNING, 2, 0.5)
    assert 0.0 < status.inference_ms_p50 <= status.inference_ms_p99


def test_the_newest_observation_wins_and_the_others_are_counted(bench: Bench) -> None:
    bench.worker.instruct(RED)
    bench.enter(1)
    for sequence in (2, 3, 4):
        bench.worker.offer(observation(sequence))
    bench.policy.gate.release(2)
    bench.wait_for_chunks(2)
    assert [chunk.observation_sequence for chunk in bench.chunks] == [1, 4]
    assert bench.worker.status().dropped_observations == 2


@pytest.mark.parametrize("newer", [BLUE, STOP])
def test_a_new_instruction_drops_the_chunk_that_is_under_way(bench: Bench, newer: Instruction) -> None:
    bench.worker.instruct(RED)
    bench.enter(1)
    bench.worker.instruct(newer)
    bench.policy.gate.release()
    bench.wait_for(lambda: bench.worker.status().inferences == 1)
    assert not bench.chunks
    assert bench.worker.status().instruction_sequence == newer.sequence
    if newer is STOP:
        bench.worker.offer(observation(2))
        assert bench.worker.status().state is WorkerState.IDLE
        assert "stop" in bench.worker.status().sentence
        return
    bench.policy.gate.release()
    bench.wait_for_chunks(1)  # on what was seen last: a new instruction does not wait for a new image
    assert (bench.chunks[0].instruction_sequence, bench.chunks[0].observation_sequence) == (2, 1)
    assert bench.policy.resets == [RED, BLUE]


def test_a_repeated_instruction_changes_nothing(bench: Bench) -> None:
    bench.worker.instruct(RED)
    bench.enter(1)
    bench.worker.instruct(Instruction(RED.text, RED.sequence))
    bench.policy.gate.release()
    bench.wait_for_chunks(1)
    assert bench.policy.resets == [RED]


def test_an_instruction_that_the_policy_refuses_is_a_fault_until_the_next_one(bench: Bench) -> None:
    bench.worker.instruct(Instruction("pick up the elephant", 4))
    bench.worker.offer(observation(1))
    bench.wait_for(lambda: bench.worker.status().state is WorkerState.FAULT)
    bench.worker.offer(observation(2))
    assert "elephants" in bench.worker.status().sentence
    assert not bench.policy.seen
    bench.policy.gate.release()
    bench.worker.instruct(Instruction(BLUE.text, 5))
    bench.worker.offer(observation(3))
    bench.wait_for_chunks(1)
    assert bench.worker.status().state is WorkerState.RUNNING


def raise_memory(_: Observation) -> ActionChunk:
    raise MemoryError("out of GPU memory")


def chunk(actions: np.ndarray, specification: str = SPECIFICATION.fingerprint) -> ActionChunk:
    return ActionChunk(actions, SPECIFICATION.period, 0.0, specification)


ROWS, COLUMNS = SPECIFICATION.horizon, SPECIFICATION.width
BAD_RESULTS: dict[str, tuple[Callable[[Observation], ActionChunk], str]] = {
    "raises": (raise_memory, "MemoryError: out of GPU memory"),
    "nan": (lambda _: chunk(np.full((ROWS, COLUMNS), np.nan)), "not finite"),
    "too wide": (lambda _: chunk(np.zeros((ROWS, COLUMNS + 1))), f"{COLUMNS} columns"),
    "too long": (lambda _: chunk(np.zeros((ROWS + 1, COLUMNS))), f"at most {ROWS} rows"),
    "other convention": (lambda _: chunk(np.zeros((ROWS, COLUMNS)), "0123456789abcdef"), "0123456789abcdef"),
    "no chunk at all": (lambda _: None, "AttributeError"),  # type: ignore[dict-item, return-value]
}


@pytest.mark.parametrize("case", BAD_RESULTS)
def test_a_bad_result_is_a_fault_with_a_sentence_and_the_next_good_one_ends_it(bench: Bench, case: str) -> None:
    bench.policy.result, expected = BAD_RESULTS[case]
    bench.worker.instruct(RED)
    bench.policy.gate.release()
    bench.enter(1)
    bench.wait_for(lambda: bench.worker.status().inferences == 1)
    status = bench.worker.status()
    assert status.state is WorkerState.FAULT
    assert expected in status.sentence
    assert not bench.chunks
    bench.policy.result = bench.policy.good
    bench.policy.gate.release()
    bench.enter(2)
    bench.wait_for_chunks(1)
    assert bench.worker.status().state is WorkerState.RUNNING
    assert bench.policy.resets == [RED, RED]  # after a fault nothing is known of the policy's state


def test_a_hung_policy_shows_in_the_status_and_recovers(bench: Bench) -> None:
    bench.worker.instruct(RED)
    bench.enter(1)
    bench.wait_for(lambda: bench.worker.status().state is WorkerState.FAULT)
    assert "computing one chunk" in bench.worker.status().sentence
    assert bench.worker.status().inferences == 0
    bench.policy.gate.release()
    bench.wait_for_chunks(1)
    assert bench.worker.status().state is not WorkerState.FAULT


def test_without_observations_the_state_is_waiting() -> None:
    bench = Bench(stale_after=0.05)
    bench.worker.instruct(RED)
    assert bench.worker.status().state is WorkerState.WAITING
    bench.policy.gate.release()
    bench.enter(1)
    bench.wait_for_chunks(1)
    bench.wait_for(lambda: bench.worker.status().state is WorkerState.WAITING)
    assert "no observation" in bench.worker.status().sentence
    assert bench.worker.close(DEADLINE)


def test_a_new_instruction_does_not_begin_with_an_old_observation() -> None:
    bench = Bench(stale_after=0.05)
    bench.worker.offer(observation(1))
    time.sleep(0.1)
    bench.worker.instruct(RED)
    bench.policy.gate.release(2)
    bench.enter(2)
    bench.wait_for_chunks(1)
    assert [seen.sequence for seen in bench.policy.seen] == [2]
    assert bench.worker.close(DEADLINE)


def test_closing_does_not_wait_for_a_hung_policy() -> None:
    bench = Bench()
    bench.worker.instruct(RED)
    bench.enter(1)
    assert bench.worker.close(0.05) is False
    bench.policy.gate.release()
    bench.wait_for(lambda: bench.worker.close(0.05))
    assert not bench.chunks


def test_a_listener_that_fails_does_not_end_the_worker() -> None:
    def refuse(_: ActionChunk) -> None:
        raise RuntimeError("the topic is gone")

    policy = GatedPolicy()
    worker = InferenceWorker(policy, refuse)
    worker.instruct(RED)
    policy.gate.release(2)
    for count in (1, 2):
        worker.offer(observation(count))
        end = time.monotonic() + DEADLINE
        while worker.status().inferences < count:
            assert time.monotonic() < end
            time.sleep(0.002)
    assert worker.status().state is WorkerState.FAULT
    assert "the topic is gone" in worker.status().sentence
    assert worker.close(DEADLINE)


def test_a_complaint_is_not_mended_by_the_chunk_of_an_older_observation(bench: Bench) -> None:
    bench.worker.instruct(RED)
    bench.enter(1)
    bench.worker.complain("the next picture is too small")
    bench.policy.gate.release()
    bench.wait_for_chunks(1)
    status = bench.worker.status()
    assert (status.state, status.sentence) == (WorkerState.FAULT, "the next picture is too small")
    bench.policy.gate.release()
    bench.worker.offer(observation(2))
    bench.wait_for_chunks(2)
    assert bench.worker.status().state is WorkerState.RUNNING
