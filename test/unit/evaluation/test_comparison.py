"""The same bad commands through three executors: only the filter breaks no limit and does its task."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety_bench.comparison import Scene, spoil, summarize
from vla_ros.types import ActionChunk

SECONDS = 1.8


@pytest.fixture(scope="module")
def plays():
    scene = Scene(load_contract("panda"), load_parameters())
    executors = scene.executors()
    recording = scene.play(executors["clamp"], 7, spoil(7, 0.3), seconds=SECONDS).record
    yield {name: scene.play(executor, 7, recorded=recording, seconds=SECONDS) for name, executor in executors.items()}
    scene.cell.close()


def test_the_filter_breaks_no_limit_where_the_others_do(plays):
    assert plays["filter"].judgement.total == 0, plays["filter"].judgement.violations
    assert plays["clamp"].judgement.violations["joint_acceleration"] > 0


def test_the_latch_stops_and_stays_so(plays):
    assert plays["latch"].stops == 1
    assert plays["latch"].stopped_ticks > 0
    assert plays["clamp"].stopped_ticks == 0


def test_figures_are_sums_and_shares(plays):
    figures = summarize([plays["filter"], plays["latch"]])
    assert figures["ticks"] == plays["filter"].ticks + plays["latch"].ticks
    assert figures["violations"] == plays["filter"].judgement.total + plays["latch"].judgement.total
    assert 0.0 <= figures["stopped_share"] <= 1.0


def test_what_is_spoilt_depends_on_seed_and_number_alone():
    clean = ActionChunk(np.zeros((12, 7)), 0.1, 1.0, "x")
    disturb, again = spoil(5), spoil(5)
    spoilt = [number for number in range(200) if disturb(clean, number) is not clean]
    assert spoilt == [number for number in range(200) if again(clean, number) is not clean]
    assert 10 <= len(spoilt) <= 45  # 1 in 8 of 196: 24.5, standard deviation 4.6
    assert min(spoilt) >= 4
