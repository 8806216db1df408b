"""The cases at the edges: each has a line, and the harness tells right from wrong."""

from __future__ import annotations

import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.safety.motion.joint_motion import JointMotion
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety_bench.edge_cases import edge_cases
from vla_ros.safety_bench.edges import LINES, EdgeCase, run_edges, try_edge
from vla_ros.safety_bench.referee.referee import Referee


@pytest.fixture(scope="module")
def parts():
    return load_contract("panda"), load_parameters()


@pytest.fixture(scope="module")
def referee(parts):
    return Referee(parts[0])


def test_case_names_are_unique_and_lines_known():
    cases = edge_cases()
    assert len({case.name for case in cases}) == len(cases)
    assert {case.line for case in cases} <= set(LINES)


def test_case_without_complaint_passes(parts, referee):
    row = try_edge(EdgeCase(1, "nothing", lambda trial: None), *parts, referee)
    assert (row.tried, row.passed, row.violations, row.sentence) == (1, 1, 0, "")


def test_case_that_complains_or_raises_fails(parts, referee):
    complains = try_edge(EdgeCase(1, "x", lambda trial: trial.require(False, "too late")), *parts, referee)
    raises = try_edge(EdgeCase(1, "x", lambda trial: [][0]), *parts, referee)
    assert (complains.passed, complains.sentence) == (0, "too late")
    assert raises.passed == 0
    assert "IndexError" in raises.sentence


def test_thin_sheet_and_self_distance_pass(parts):
    rows = run_edges(*parts, lines=[17])
    assert len(rows) == 2
    assert all(row.passed for row in rows), [row.sentence for row in rows]


def test_gap_case_finds_steps_that_jump(parts, referee, monkeypatch):
    """A layer that makes every step three times as long: the judged motion of the case has violations."""
    propose = JointMotion.propose

    def further(self, velocities):
        step = propose(self, velocities)
        if step is not None:
            step.positions[:] = self.current.positions + 3.0 * (step.positions - self.current.positions)
        return step

    monkeypatch.setattr(JointMotion, "propose", further)
    case = next(case for case in edge_cases() if case.name == "fast motion with stops")
    row = try_edge(case, *parts, referee)
    assert row.passed == 0
    assert row.violations > 0
