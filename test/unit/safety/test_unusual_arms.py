"""The safety layer of arms that are built otherwise: the fault table, and a fuzz that the timed referee judges."""

from __future__ import annotations

import os

import numpy as np
import pytest

from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.faults import chunks, configuration, demands, places, postures, states
from vla_ros.safety.selftest.run import run_selftest
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.safety.selftest.table import run_faults
from vla_ros.safety_bench.fuzz import fuzz

TICKS = int(os.environ.get("VLA_ROS_FUZZ_TICKS", "600"))
NAMES = ("bare", "mirrored", "mimic", "continuous")
GRIPPER_ROWS = {row.name for row in demands._grippers()}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_comes_in_brings_out_an_unsafe_command(arm_variants, parameters, name):
    report = fuzz(arm_variants[name], parameters, TICKS, seed=5)
    assert report.judgement.total == 0, report.figures()
    assert not report.raised
    assert report.states["RUN"] and report.states["HOLD"] and report.states["DISARMED"]
    assert report.judgement.commands > TICKS // 2


@pytest.mark.parametrize("name", NAMES)
def test_every_fault_is_stopped(arm_variants, parameters, name):
    faults = [fault for part in (chunks, states, demands, postures, configuration) for fault in part.table()]
    faults += [fault for fault in places.table() if fault.name == "the target is inside the arm"]
    rows = run_faults(arm_variants[name], parameters, faults)
    assert [f"{row.name}: {row.sentence}" for row in rows if not row.stopped] == []
    apart = {row.name for row in rows if row.got == "does not apply"}
    assert apart == (GRIPPER_ROWS if name == "bare" else set())
    assert run_selftest(arm_variants[name], parameters) == []


def test_a_column_for_a_gripper_that_is_not_there_is_refused(arm_variants, parameters):
    shadow = Shadow(arm_variants["bare"], parameters)
    shadow.move()
    actions = np.hstack([shadow.actions(shadow.way((0.0, 0.0, 0.0))), np.ones((12, 1))])
    assert shadow.send(shadow.chunk(actions)) is Reason.CHUNK_SHAPE
    assert set(shadow.openings) == {0.0}
