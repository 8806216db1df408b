"""Nonsense of every kind goes in; the referee finds nothing in what comes out, and it sees what it should see."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.robot.differential_ik import DifferentialIK
from vla_ros.safety.measurement.measured_motion import MeasuredMotion
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.motion.envelope import Envelope
from vla_ros.safety.motion.joint_motion import JointMotion
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety_bench.fuzz import Durations, FuzzReport, fuzz, fuzz_segment
from vla_ros.safety_bench.referee.referee import Referee


@pytest.fixture(scope="module")
def parts():
    return load_contract("panda"), load_parameters()


def test_2000_ticks_of_nonsense_bring_out_nothing_unsafe(parts):
    report = fuzz(*parts, 2000, seed=11)
    figures = report.figures()
    assert not any(figures["violations_by_kind"].values()), figures
    assert figures["worst"]["reference_acceleration"] > 0.5  # it was judged
    assert figures["raised"] == 0, figures["first_raised"]
    assert figures["ticks"] == sum(report.states.values()) == 2000
    assert {"RUN", "HOLD"} <= set(report.states)
    assert len(report.reasons) > 8


SPACES = {
    "panda position": ("panda", "joint_position", {}),
    "panda velocity": ("panda", "joint_velocity", {}),
    "so101 percent": ("so101", "joint_position", {"unit": "percent", "gripper": "open_is_hundred"}),
    "ur5e delta": ("ur5e", "joint_delta", {"reference": "delta", "unit": "degrees"}),
}


@pytest.mark.parametrize("space", list(SPACES))
def test_2000_ticks_of_joint_plans_bring_out_nothing_unsafe(space, of_joints, parts):
    robot, quantity, lines = SPACES[space]
    figures = fuzz(of_joints(robot, quantity, **lines), parts[1], 2000, seed=5).figures()
    assert not any(figures["violations_by_kind"].values()), figures
    assert figures["raised"] == 0, figures["first_raised"]
    assert {"RUN", "HOLD"} <= set(figures["states"])
    assert {"joint_velocity", "workspace"} <= set(figures["reasons"])
    assert figures["worst"]["tool_speed"] < 1.05


def test_joint_plans_press_on_a_face_within_its_tolerance(of_joints, parts):
    """In this segment the arm sweeps its tool along faces, whose tolerance its way between two looks took twice."""
    robot, quantity, lines = SPACES["ur5e delta"]
    contract, parameters = of_joints(robot, quantity, **lines), parts[1]
    referee = Referee(contract, parameters.timing.period)
    judgement = fuzz_segment(contract, parameters, referee, 2000, (17, 7)).judgement
    assert judgement.total == 0
    assert judgement.worst["beyond_workspace_mm"] < 1e3 * parameters.motion.workspace_tolerance


def test_joint_plans_that_only_keep_joint_limits_are_found_out(of_joints, parts, monkeypatch):
    """Neither what slows the joints near a face nor the last word on every command: the tool leaves its workspace."""

    def alone(self, wanted, lower, upper, rows, row_lower):
        return np.clip(wanted, lower, upper)

    monkeypatch.setattr(DifferentialIK, "nearest", alone)
    monkeypatch.setattr(Envelope, "judge", lambda self, step: (Reason.OK, ""))
    assert fuzz(of_joints("panda"), parts[1], 2000, seed=5).judgement.violations["workspace"] > 0


def test_the_same_seed_is_the_same_run(parts):
    first, second, other = (fuzz(*parts, 150, seed=seed).reasons for seed in (1, 1, 2))
    assert first == second != other


def test_a_layer_without_its_joint_limits_is_found_out(parts, monkeypatch):
    propose = JointMotion.propose

    def at_once(self, velocities):
        step = propose(self, velocities)
        if step is not None:
            step.positions[:] = self.current.positions + 0.05 * np.sign(velocities)
        return step

    monkeypatch.setattr(JointMotion, "propose", at_once)
    assert fuzz(*parts, 150, seed=1).judgement.violations["joint_velocity"] > 0


def test_a_layer_that_arms_where_a_driver_froze_is_found_out(parts, monkeypatch):
    """In this segment the driver freezes in motion, and is armed while it lies: the arm went on."""
    contract, parameters = parts
    referee = Referee(contract, parameters.timing.period)
    assert fuzz_segment(*parts, referee, 2000, (4, 2)).judgement.total == 0
    monkeypatch.setattr(MeasuredMotion, "shows", lambda self, joints: True)
    violations = fuzz_segment(*parts, referee, 2000, (4, 2)).judgement.violations
    assert violations["arming_jump"] > 0
    assert violations["reference_velocity"] > 0


def test_a_report_survives_its_way_through_json(parts):
    report = fuzz(*parts, 120, seed=3)
    again = FuzzReport.from_values(json.loads(json.dumps(report.values())))
    assert again.figures() == report.figures()


def test_quantiles_of_durations_are_right_within_a_bin():
    durations = Durations()
    values = np.random.default_rng(1).lognormal(0.0, 1.0, 5000)
    for value in values:
        durations.take(float(value))
    for share in (0.01, 0.5, 0.99):
        assert durations.quantile(share) == pytest.approx(float(np.quantile(values, share)), rel=0.03)
    assert Durations().quantile(0.5) == 0.0


@pytest.fixture(scope="module")
def pair():
    return load_contract("so101_pair")


def test_2000_ticks_of_nonsense_for_two_arms_bring_out_nothing_unsafe(pair, parts):
    """In this segment the arms meet, and the driver of one of them is gone for a while."""
    referee = Referee(pair, parts[1].timing.period)
    figures = fuzz_segment(pair, parts[1], referee, 2000, (2, 1)).figures()
    assert not any(figures["violations_by_kind"].values()), figures
    assert figures["raised"] == 0, figures["first_raised"]
    assert {"RUN", "HOLD"} <= set(figures["states"])
    assert {"self_collision", "state_source"} <= set(figures["reasons"])
    assert figures["worst"]["tool_speed"] < 1.05


def test_a_layer_that_does_not_keep_arms_apart_is_found_out(pair, parts, monkeypatch):
    """Parts of different arms are not watched against each other."""
    monkeypatch.setattr(CollisionModel, "_add_pairs", without_pairs_of_arms(CollisionModel._add_pairs))
    referee = Referee(pair, parts[1].timing.period)
    assert fuzz_segment(pair, parts[1], referee, 2000, (2, 1)).judgement.violations["arm_collision"] > 0


def without_pairs_of_arms(add):
    def added(self, *arguments):
        add(self, *arguments)
        kept = [index for index, pair in enumerate(self.pairs) if not ("left_" in pair.name and "right_" in pair.name)]
        self.pairs, self._indices = [self.pairs[i] for i in kept], [self._indices[i] for i in kept]
        self._register()

    return added
