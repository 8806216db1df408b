"""Heartbeats against the clock, with deadlines of 50, 80 and 350 ms; the arithmetic stands beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.errors import ContractError
from vla_ros.safety.reasons import Reason
from vla_ros.safety.watch.policy import Condition, Heartbeat, PolicyWatch


@pytest.fixture
def watch(parameters):
    return PolicyWatch(replace(parameters.timing, policy_slow=0.05, policy_timeout=0.08, inference_timeout=0.35))


def beat(condition=Condition.RUNNING, inferences=1, computing=False, sentence=""):
    return Heartbeat(condition, inferences, computing, sentence)


def test_nobody_is_well_before_the_first_heartbeat(watch):
    assert watch.fault(0.0) == (Reason.POLICY_SILENT, "(since the start)")
    assert watch.late(0.0)
    assert watch.left(0.0) == -np.inf


def test_silence_slows_after_50_and_holds_after_80_ms(watch):
    watch.receive(beat(), 10.0)
    for after, late, reason in (
        (0.049, False, Reason.OK),
        (0.051, True, Reason.OK),
        (0.079, True, Reason.OK),
        (0.081, True, Reason.POLICY_SILENT),
    ):
        assert watch.late(10.0 + after) is late
        assert watch.fault(10.0 + after)[0] is reason
    assert watch.left(10.05) == pytest.approx(0.03)


def test_a_clock_that_runs_back_is_silence(watch):
    watch.receive(beat(), 10.0)
    assert watch.fault(9.0)[0] is Reason.POLICY_SILENT


def test_an_inference_may_take_350_ms_by_the_count_and_not_by_what_the_policy_says(watch):
    for i in range(50):  # a heartbeat every 20 ms, always computing, nothing finished after the first: 0.98 s
        watch.receive(beat(computing=True), 10.0 + 0.02 * i)
    assert watch.fault(10.98)[0] is Reason.POLICY_STUCK
    watch.receive(beat(inferences=2, computing=True), 11.0)
    assert watch.fault(11.0)[0] is Reason.OK


def test_an_inference_that_is_within_its_time_is_not_stuck(watch):
    for i in range(18):  # 17 x 0.02 = 0.34 s
        watch.receive(beat(computing=True), 10.0 + 0.02 * i)
    assert watch.fault(10.34)[0] is Reason.OK
    watch.receive(beat(computing=True), 10.36)
    assert watch.fault(10.36)[0] is Reason.POLICY_STUCK


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (Condition.FAULT, Reason.POLICY_FAULT),
        (Condition.WAITING, Reason.POLICY_WAITING),
        (Condition.IDLE, Reason.POLICY_WAITING),
    ],
)
def test_a_complaint_counts_when_it_lasts_for_80_ms(watch, condition, reason):
    watch.receive(beat(), 10.0)
    for i in range(1, 4):
        watch.receive(beat(condition, sentence="so it is"), 10.0 + 0.02 * i)
        assert watch.fault(10.0 + 0.02 * i)[0] is Reason.OK
    watch.receive(beat(condition, sentence="so it is"), 10.1)
    assert watch.fault(10.1) == (reason, "(so it is)")
    watch.receive(beat(), 10.12)
    assert watch.fault(10.12)[0] is Reason.OK


def test_the_arm_slows_before_it_holds(parameters):
    with pytest.raises(ContractError, match="policy_slow"):
        replace(parameters.timing, policy_slow=0.1)
