"""Distances that a tick cannot hold are refused by one sentence, before any fault is tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vla_ros.cli.main import main
from vla_ros.errors import ContractError
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.selftest import query_time as module
from vla_ros.safety.selftest.query_time import check_query_time, query_time, require_timely_distances
from vla_ros.safety.selftest.table import fault_table, run_faults

PERIOD = 0.01


@pytest.mark.parametrize(("milliseconds", "noted"), [(0.1, False), (0.99, False), (1.01, True), (4.9, True)])
def test_what_fits_into_a_tick_is_taken_and_noted_from_a_tenth_on(contract, milliseconds, noted):
    said = check_query_time(1e-3 * milliseconds, 7, contract, PERIOD)
    assert bool(said) == noted
    assert not noted or ("7 triangles" in said and "vla-ros robot simplify" in said)


@pytest.mark.parametrize("milliseconds", [5.0, 38.0, float("nan"), float("inf")])
def test_what_does_not_is_refused_with_both_times(contract, milliseconds):
    with pytest.raises(ContractError, match=r"of a tick of 10.0 ms.*at most 5.0 ms.*vla-ros robot simplify"):
        check_query_time(1e-3 * milliseconds, 41096, contract, PERIOD)


def test_the_limit_goes_by_the_rate(contract):
    with pytest.raises(ContractError):
        check_query_time(0.6e-3, 0, contract, 1e-3)
    assert check_query_time(0.6e-3, 0, contract, 0.1) == ""


def test_it_is_counted_how_long_the_model_computes_and_not_how_long_it_waits(contract, parameters, monkeypatch):
    """Of a clock that a busy machine lets run on, only the repeat that was not disturbed counts."""
    model = CollisionModel(contract, parameters.collision, parameters.obstacles)
    steps = [0.2, 0.001, 0.3] * module.POSTURES
    clock = iter([time for i, step in enumerate(steps) for time in (float(i), i + step)])
    monkeypatch.setattr(module.time, "thread_time", lambda: next(clock))
    assert query_time(model, contract) == pytest.approx(0.001)


def test_one_sentence_comes_before_any_fault(contract, parameters, monkeypatch, capsys):
    monkeypatch.setattr(module, "query_time", lambda model, contract: 38e-3)
    rows = []
    with pytest.raises(ContractError, match=r"38\.0 ms of a tick of 10\.0 ms"):
        run_faults(contract, parameters, fault_table()[:3], rows.append)
    assert rows == []
    assert main(["selftest", "--robot", "panda"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1


def test_distances_that_nobody_asks_for_cost_nothing(contract, parameters, monkeypatch):
    monkeypatch.setattr(module, "query_time", lambda model, contract: 38e-3)
    off = replace(parameters, collision=replace(parameters.collision, enabled=False))
    assert require_timely_distances(contract, off) == ""
