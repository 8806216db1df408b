"""Every fault of the table is stopped, and a row turns red when the check that stops it is taken away."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.safety import cartesian_filter, gripper_filter, motion, plan_follower, state_monitor, supervisor
from vla_ros.safety.chunk_gate import ChunkGate
from vla_ros.safety.envelope import Envelope
from vla_ros.safety.faults import Fault, fault_table, run_faults
from vla_ros.safety.joint_motion import JointMotion
from vla_ros.safety.reasons import Reason
from vla_ros.safety.state_machine import StateMachine

TABLE = {fault.name: fault for fault in fault_table()}


@pytest.fixture(scope="module")
def rows(contract, parameters):
    return {row.name: row for row in run_faults(contract, parameters)}


def test_there_are_many_faults_each_under_a_name_of_its_own():
    assert len(fault_table()) >= 40
    assert len(TABLE) == len(fault_table())


def test_every_fault_is_stopped(rows):
    assert [f"{row.name}: expected {row.expected}, {row.sentence}" for row in rows.values() if not row.stopped] == []


def row(contract, parameters, name):
    [result] = run_faults(contract, parameters, [TABLE[name]])
    return result


def without_finite_check(monkeypatch):
    monkeypatch.setattr("vla_ros.safety.chunk_gate.np.isfinite", lambda values: np.ones(np.shape(values), bool))


def without_gate(name, monkeypatch):
    monkeypatch.setattr(ChunkGate, name, lambda *_: None)


def without_watchdog(monkeypatch):
    monkeypatch.setattr(plan_follower.PlanFollower, "fault", lambda *_: (Reason.OK, ""))


def without_state_watch(monkeypatch):
    monkeypatch.setattr(state_monitor.StateMonitor, "_judge", lambda *_: Reason.OK)


def without_staleness(monkeypatch):
    monkeypatch.setattr(
        state_monitor.StateMonitor,
        "fault",
        lambda self, now: self._fault if self.state is None else Reason.OK,
    )


def without_projection(monkeypatch):
    monkeypatch.setattr(cartesian_filter.CartesianFilter, "project", lambda _, target: (target, 0.0))
    monkeypatch.setattr(cartesian_filter.CartesianFilter, "faces", lambda *_: (np.zeros(0), np.zeros((0, 3))))
    monkeypatch.setattr(Envelope, "_excess_of_tool", lambda *_: np.zeros(3))


def without_joint_limits(monkeypatch):
    """Whatever is wanted is done at once."""

    def propose(self, velocities):
        step = propose_soundly(self, velocities)
        if step is not None:
            step.positions[:] = self.current.positions + 3.0 * velocities * 0.01
        return step

    propose_soundly = JointMotion.propose
    monkeypatch.setattr(JointMotion, "propose", propose)


def without_latch(monkeypatch):
    def release(self):
        self.estop_pressed = False
        self.arm()

    monkeypatch.setattr(StateMachine, "release_estop", release)


def without_stop_word(monkeypatch):
    monkeypatch.setattr(supervisor.SafetySupervisor, "_hold", lambda *_: None)


def without_gripper_range(monkeypatch):
    def step(self, target):
        self.opening = target
        return Reason.GRIPPER_RANGE

    monkeypatch.setattr(gripper_filter.GripperFilter, "step", step)


def without_count_of_corrections(monkeypatch):
    follow = motion.Motion.follow

    def never_braked(self, *arguments):
        result = follow(self, *arguments)
        object.__setattr__(result, "braked", False)
        return result

    monkeypatch.setattr(motion.Motion, "follow", never_braked)


@pytest.mark.parametrize(
    ("name", "remove"),
    [
        ("an action is NaN", without_finite_check),
        ("a chunk has a column too few", lambda m: without_gate("_judge_form", m)),
        ("another specification", lambda m: without_gate("_judge_form", m)),
        ("the stamp is an hour ahead", lambda m: without_gate("_judge_time", m)),
        ("the same chunk twice", lambda m: without_gate("_judge_time", m)),
        ("chunks for an old instruction", lambda m: without_gate("_judge_service", m)),
        ("the policy does not trust its plan", lambda m: without_gate("_judge_service", m)),
        ("the policy falls silent", without_watchdog),
        ("the chunk runs out", without_watchdog),
        ("a measured joint is NaN", without_state_watch),
        ("a state has too few joints", without_state_watch),
        ("the joint states stop", without_staleness),
        ("the target is left of the workspace", without_projection),
        ("a leap of 0.3 m in one row", without_joint_limits),
        ("emergency stop released without a reset", without_latch),
        ("'stop' in motion", without_stop_word),
        ("the gripper is asked for too wide an opening", without_gripper_range),
        ("corrections without end", without_count_of_corrections),
    ],
)
def test_a_row_turns_red_when_its_check_is_removed(contract, parameters, monkeypatch, rows, name, remove):
    assert rows[name].stopped
    remove(monkeypatch)
    result = row(contract, parameters, name)
    assert not result.stopped
    assert result.sentence


def test_a_layer_that_raises_let_the_fault_through(contract, parameters):
    fault = Fault("breaks", lambda trial: 1 / 0, frozenset(), frozenset(), moving=False)
    [result] = run_faults(contract, parameters, [fault])
    assert not result.stopped
    assert "ZeroDivisionError" in result.got
