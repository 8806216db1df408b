"""The instruction node's heartbeat against the clock, with a timeout of 0.5 s; the arithmetic stands beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vla_ros.safety.reasons import Reason
from vla_ros.safety.watch.instruction import InstructionWatch


@pytest.fixture
def watch(parameters):
    return InstructionWatch(replace(parameters.timing, instruction_timeout=0.5))


def test_node_that_was_never_heard_is_not_missed(watch):
    assert watch.fault(1e9) == (Reason.OK, "")


def test_silence_of_half_a_second_is_a_fault(watch):
    watch.receive(1, 10.0)
    assert watch.fault(10.49) == (Reason.OK, "")
    assert watch.fault(10.51) == (Reason.INSTRUCTION_SILENT, "(for 0.51 s)")


def test_the_next_beat_ends_it(watch):
    watch.receive(1, 10.0)
    watch.receive(2, 11.0)
    assert watch.fault(11.2)[0] is Reason.OK


def test_a_repeated_beat_is_no_sign_of_life(watch):
    watch.receive(7, 10.0)
    watch.receive(7, 10.4)
    assert watch.fault(10.6)[0] is Reason.INSTRUCTION_SILENT


def test_a_node_started_again_counts_from_one(watch):
    watch.receive(700, 10.0)
    watch.receive(1, 12.0)
    assert watch.fault(12.1)[0] is Reason.OK


@pytest.mark.parametrize("now", [9.9, float("nan")])
def test_a_clock_that_makes_no_sense_is_silence(watch, now):
    watch.receive(1, 10.0)
    assert watch.fault(now)[0] is Reason.INSTRUCTION_SILENT
