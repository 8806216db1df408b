"""The figures of `vla-ros bench loop`: steps at seams and pauses of plans whose motion is known, and one whole run."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest

from vla_ros.actions.trajectory import ArmStart, ArmTrajectory
from vla_ros.cli.main import main
from vla_ros.evaluation.loop_bench import Episode, delays_of, seams_of, settings_of, summarise_loop
from vla_ros.evaluation.rollout import POLICY_LATENCY
from vla_ros.policies.execution.plan import Plan
from vla_ros.policies.execution.settings import Mode
from vla_ros.robot.contract import load_contract
from vla_ros.types import Pose

CONTRACT = load_contract("panda")
PERIOD, ROWS = CONTRACT.action.period, CONTRACT.action.horizon
LIMIT = CONTRACT.cartesian.linear_acceleration * PERIOD  # m/s from one row to the next
DOWN = np.array([1.0, 0.0, 0.0, 0.0])


def plan(stamp: float, start: float, velocity: float, rows: int = ROWS) -> Plan:
    """The tool moves along x from `start`, m, at a constant `velocity`, m/s."""
    positions = np.zeros((rows, 3))
    positions[:, 0] = start + velocity * PERIOD * np.arange(1, rows + 1)
    arm = ArmTrajectory(None, positions, np.tile(DOWN, (rows, 1)), np.zeros(rows))
    return Plan(stamp, PERIOD, rows, {"arm": ArmStart(np.zeros(7), Pose([start, 0, 0], DOWN), 0.08)}, {"arm": arm})


def test_plan_that_goes_on_makes_no_step() -> None:
    seams = seams_of(CONTRACT)
    seams.take(plan(1.0, 0.3, 0.2), 1.1)
    seams.take(plan(1.3, 0.36, 0.2), 1.5)
    assert seams.steps == pytest.approx([0.0], abs=1e-9)
    assert seams.pauses == [0.0]


@pytest.mark.parametrize(
    ("start", "velocity", "step"),
    [(0.36, 0.4, 0.2 + 0.2 * 2.0), (0.36 + 0.03, 0.2, 0.3), (0.36, 0.2 - LIMIT, LIMIT * 3.0)],
)
def test_step_is_what_the_arm_would_have_to_change_within_a_row(start: float, velocity: float, step: float) -> None:
    """The old plan is at 0.40 m at 1.5 s; the new one has moved for 0.2 s by then: a jump of the place counts, too."""
    seams = seams_of(CONTRACT)
    seams.take(plan(1.0, 0.3, 0.2), 1.1)
    seams.take(plan(1.3, start, velocity), 1.5)
    assert seams.steps == pytest.approx([step / LIMIT])


def test_pause_is_the_time_without_a_row() -> None:
    seams = seams_of(CONTRACT)
    seams.take(plan(1.0, 0.3, 0.2, rows=4), 1.1)
    seams.take(plan(1.5, 0.38, 0.2), 1.75)
    seams.end(1.9)
    assert seams.pauses == pytest.approx([0.35, 0.0])


def test_figures_count_what_is_over_its_limit() -> None:
    episodes = [Episode(seams_of(CONTRACT), [0.3, 0.4], success=True, seconds=5.0), Episode(seams_of(CONTRACT), [0.35])]
    episodes[0].seams.steps, episodes[0].seams.pauses = [0.1, 1.5, np.nan], [0.0, 0.05, 0.2]
    row = summarise_loop("newest", 0.3, episodes)
    assert (row.seams, row.seams_over) == (3, 2)  # what is no number is not within the limit
    assert (row.pauses_over, row.longest_pause_ms) == (1, 200.0)
    assert (row.episodes, row.successes, row.delay_ms, row.jitter_ms) == (2, 1, 350.0, 100.0)


def test_delays_repeat_by_seed_and_stay_within_the_jitter() -> None:
    first, again, other = (list(islice(delays_of(0.3, 0.05, seed), 200)) for seed in (1, 1, 2))
    assert first == again != other
    assert min(first) >= POLICY_LATENCY + 0.25 and max(first) <= POLICY_LATENCY + 0.35
    assert np.ptp(first) > 0.09
    assert min(islice(delays_of(0.0, 1.0, 1), 200)) == 0.0


def test_ways_are_modes_and_two_that_do_not_overlap() -> None:
    waits, newest = settings_of("synchronous", 12), settings_of("newest", 12)
    assert (waits.mode, waits.execute) == (Mode.SYNCHRONOUS, 6)
    assert (newest.mode, newest.execute) == (Mode.SYNCHRONOUS, 0)
    assert settings_of("ensembling", 12).mode is Mode.ENSEMBLING


@pytest.mark.slow
def test_command_measures_the_shipped_policy(tmp_path, capsys) -> None:
    words = ["bench", "loop", "--scenes", "1", "--delays", "300", "--ways", "asynchronous", "real_time_chunking"]
    assert main([*words, "--out", str(tmp_path), "--json"]) == 0
    printed = capsys.readouterr().out
    report = json.loads(printed.splitlines()[-1])
    assert report["left_out"] == ["real_time_chunking"]
    assert "real_time_chunking: left out, the policy accepts no prefix" in printed
    (row,) = report["rows"]
    assert (row["way"], row["slower_ms"], row["episodes"]) == ("asynchronous", 300.0, 1)
    assert 290.0 <= row["delay_ms"] <= 390.0
    assert row["seams"] > 3
    assert json.loads((tmp_path / "loop.json").read_text())["rows"] == report["rows"]
    assert (tmp_path / "loop.png").stat().st_size > 10_000
