"""Contact in MuJoCo: efforts as a driver reports them, force on an immovable box, and no contact in a grasp."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from vla_ros.envs.collector import CONTROL_PERIOD
from vla_ros.envs.registry import make_env
from vla_ros.robot.contract import load_contract
from vla_ros.safety.contact.momentum_observer import MomentumObserver
from vla_ros.safety.parameters import load_parameters
from vla_ros.types import Instruction

CONTRACT = load_contract("panda")


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).parents[2] / "benchmarks" / "contact.py"
    spec = importlib.util.spec_from_file_location("contact_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_efforts_of_the_cell_match_the_robot_description():
    """At rest gravity alone, in motion the whole of inverse dynamics: residual within 2 N m of up to 40 N m."""
    cell = make_env("pick", CONTRACT)
    cell.reset(0)
    kinematics = cell.kinematics
    observer = MomentumObserver(kinematics.model, kinematics.frame_id, 0.01)
    start, worst = cell.state().joint_positions.copy(), 0.0
    for k in range(150):
        moved = start + 0.15 * (1.0 - np.cos(2.0 * np.pi * k / 100.0)) * np.array([1, 0.5, 1, 0.5, 1, 0.5, 1])
        cell.command(moved, 0.08)
        cell.step(CONTROL_PERIOD)
        worst = max(worst, float(np.abs(observer.update(cell.state())).max()))
    cell.close()
    assert worst < 2.0


@pytest.mark.parametrize("speed", [0.1, 0.2, 0.45])
def test_immovable_box_is_released_at_any_speed(bench, speed):
    with_effort = bench.approach(CONTRACT, "tool", speed).summary()
    without = bench.approach(bench.with_mode(CONTRACT, "off"), "tool", speed).summary()
    assert with_effort["reason"] == "contact"
    assert with_effort["final_n"] == 0.0
    assert with_effort["release_s"] <= 0.3
    assert with_effort["peak_n"] < without["peak_n"]
    assert without["final_n"] > 100.0


def test_immovable_box_is_released_without_efforts(bench):
    summary = bench.approach(bench.with_mode(CONTRACT, "tracking"), "tool", 0.2).summary()
    assert summary["reason"] == "contact"
    assert summary["release_s"] <= 0.3
    assert summary["final_n"] == 0.0


def served_late(bench, contract, late):
    """Follow a line in free air; after 0.6 s no command reaches the servos for `late` s; return the reasons."""
    cell = make_env("pick", contract)
    order = Instruction(cell.reset(0), sequence=1)
    executor = bench.SafetyExecutor(contract, load_parameters())
    executor.start(cell, order)
    start, began, due, number, command = cell.state().end_effector, cell.time, cell.time, 0, cell.command
    while cell.time - began < 0.6 + late:
        elapsed = cell.time - began
        cell.command = command if elapsed < 0.6 else lambda *_: None
        state = cell.state()
        if state.stamp >= due - 1e-9:
            due, number = due + contract.action.period, number + 1
            line = bench._line(contract, state, start.position, 0.1, elapsed, number)
            executor.receive(line, state.end_effector, state.stamp)
        executor.control(cell, state, state.stamp)
        cell.step(CONTROL_PERIOD)
    cell.close()
    return {decision.reason for decision in executor.decisions}


def test_commands_that_are_served_late_are_no_contact_where_torques_are_measured(bench):
    assert "contact" not in served_late(bench, CONTRACT, 0.25)
    assert "contact" in served_late(bench, bench.with_mode(CONTRACT, "tracking"), 0.25)  # no torques: taken for one


@pytest.mark.parametrize("task", ["pick", "stack"])
def test_grasping_and_placing_are_no_contact(bench, task):
    figures = bench.false_stops(CONTRACT, task, 2)
    assert figures["false_stops"] == 0
    assert figures["success_rate"] == 1.0


def test_benchmark_draws_its_plot(bench, tmp_path):
    pytest.importorskip("matplotlib")
    one = bench.Approach(np.array([10.0, 50.0, 0.0]), "contact", "")
    bench.plot({"tool": {mode: dict.fromkeys(bench.SPEEDS, one) for mode in bench.MODES}}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
