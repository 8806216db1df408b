"""When an instant of lock step is over: every answer is needed, an answer of before counts for nothing."""

from __future__ import annotations

import threading

import pytest

from vla_ros.envs.mujoco import lockstep
from vla_ros.envs.mujoco.lockstep import LockstepGate


class Bench:
    """A gate that nobody interrupts unless a test says so, and that waits for hundredths of a second only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lockstep, "POLICY_REPEAT", 0.01)
        monkeypatch.setattr(lockstep, "POLICY_WAIT", 0.03)
        monkeypatch.setattr(lockstep, "FIRST_REPEAT", 0.01)
        monkeypatch.setattr(lockstep, "REPEAT", 0.02)
        self.change = threading.Condition()
        self.interrupted = False
        self.warnings: list[str] = []
        self.gate = LockstepGate(self.change, lambda: self.interrupted, self.warnings.append)

    def answer(self, what: str, stamp: float | None) -> None:
        with self.change:
            self.gate.answer(what, stamp)

    def policy(self, inferences: int, stamp: float | None = None, fault: bool = False) -> None:
        with self.change:
            if stamp is not None:
                self.gate.chunk_arrived(stamp)
            self.gate.policy_spoke(inferences, fault)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


@pytest.mark.parametrize(
    ("arm", "gripper", "answered"),
    [
        (0.05, 0.05, True),
        (0.05 + 1e-8, 0.05, True),  # a stamp has been through nanoseconds
        (0.05, None, False),
        (None, 0.05, False),
        (0.04, 0.05, False),
        (0.05, 0.04, False),
        (0.06, 0.06, False),
    ],
)
def test_both_commands_have_to_be_for_this_instant(
    bench: Bench, arm: float | None, gripper: float | None, answered: bool
) -> None:
    bench.answer("arm", arm)
    bench.answer("gripper", gripper)
    assert bench.gate.await_command(0.05) is answered
    assert bench.gate.in_step is answered


def test_an_interruption_comes_first(bench: Bench) -> None:
    bench.answer("arm", 0.05)
    bench.answer("gripper", 0.05)
    bench.interrupted = True
    assert bench.gate.await_command(0.05) is False
    bench.gate.frames_taken(0.05)
    bench.policy(1, 0.05)
    assert bench.gate.await_policy() is False


def test_frames_want_a_chunk_and_the_count_that_says_that_everyone_has_it(bench: Bench) -> None:
    bench.gate.frames_taken(1.0)
    assert not bench.gate.await_policy()
    with bench.change:
        bench.gate.chunk_arrived(1.0)
    assert not bench.gate.await_policy()
    bench.policy(1)
    assert bench.gate.await_policy()
    assert bench.gate.is_planned(1.0)
    assert not bench.gate.is_planned(1.1)


def test_a_count_without_a_chunk_is_no_answer_unless_the_policy_is_at_fault(bench: Bench) -> None:
    bench.gate.frames_taken(1.0)
    bench.policy(1)
    assert not bench.gate.await_policy()
    bench.policy(1, fault=True)
    assert bench.gate.await_policy()


def test_answers_to_earlier_frames_do_not_count(bench: Bench) -> None:
    bench.gate.frames_taken(1.0)
    bench.policy(1, 1.0)
    bench.gate.frames_taken(1.1)
    assert not bench.gate.await_policy()
    bench.policy(2)
    assert not bench.gate.await_policy()
    bench.policy(2, 1.1)
    assert bench.gate.await_policy()


def test_an_observation_may_be_a_little_older_than_its_frames(bench: Bench) -> None:
    bench.gate.frames_taken(1.0)
    bench.policy(1, 0.99)
    assert bench.gate.await_policy()


def test_frames_that_are_never_answered_are_warned_of_once_and_not_waited_for_again(bench: Bench) -> None:
    bench.gate.frames_taken(1.0)
    assert [bench.gate.await_policy() for _ in range(5)] == [False, False, True, True, True]
    assert len(bench.warnings) == 1
    assert "1.00 s" in bench.warnings[0]
    bench.gate.frames_taken(1.1)
    assert not bench.gate.await_policy()


def test_an_observation_that_is_much_older_than_its_frames_does_not_count(bench: Bench) -> None:
    bench.gate.frames_taken(0.5)
    bench.gate.frames_taken(1.0)
    bench.policy(1, 0.9)
    assert not bench.gate.await_policy()


def test_the_commands_of_all_arms_have_to_come(bench: Bench) -> None:
    gate = LockstepGate(bench.change, lambda: False, bench.warnings.append, 2)
    for what, arm in (("arm", 0), ("gripper", 0), ("arm", 1), ("gripper", 1)):
        assert not gate.await_command(0.05)
        with bench.change:
            gate.answer(what, 0.05, arm)
    assert gate.await_command(0.05)
