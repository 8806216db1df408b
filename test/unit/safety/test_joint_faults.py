"""The fault table and the self-test of a robot whose policy commands joints."""

from __future__ import annotations

import json
from argparse import Namespace

import numpy as np
import pytest

from vla_ros.cli.commands import selftest
from vla_ros.robot.contract import load_contract
from vla_ros.robot.inverse_kinematics import nearest_posture
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.chunk_gate import ChunkGate
from vla_ros.safety.motion.joint_filter import JointFilter
from vla_ros.safety.selftest.faults import joint_space
from vla_ros.safety.selftest.record import fingerprint, recall
from vla_ros.safety.selftest.run import run_selftest
from vla_ros.safety.selftest.table import fault_table, run_faults

JOINT_ROWS = {fault.name for fault in joint_space.table()}
TOOL_ROWS = {
    "an action is 50 m",
    "a rotation is Inf",
    "a quaternion is zero",
    "the starting pose is NaN",
    "the arm is stretched, and comes back",
}


@pytest.fixture(scope="module", params=["panda", "so101"])
def contract_of_joints(request, of_joints):
    lines = {"panda": {}, "so101": {"unit": "percent", "gripper": "open_is_hundred"}}[request.param]
    return of_joints(request.param, **lines)


def test_the_command_misses_no_fault_and_keeps_its_pass(contract_of_joints, parameters, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "robot.yaml"
    file.write_text(contract_of_joints.text, encoding="utf-8")
    assert selftest.run(Namespace(robot=str(file), safety="config/safety.yaml", json=True)) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["missed"] == 0
    names = {row["name"] for row in report["rows"]}
    assert names >= JOINT_ROWS
    assert not names & TOOL_ROWS
    assert all(row["got"] != "does not apply" for row in report["rows"])
    mark = fingerprint(load_contract(str(file)), parameters)
    assert recall(tmp_path / "vla_ros" / "selftest", mark, max_age=3600.0) is not None, "a node must find it"


def test_the_short_selftest_passes(contract_of_joints, parameters):
    assert run_selftest(contract_of_joints, parameters) == []


def test_a_contract_of_the_tool_keeps_its_rows(contract):
    names = {fault.name for fault in fault_table(contract)}
    assert names >= TOOL_ROWS
    assert not names & JOINT_ROWS
    assert {fault.name for fault in fault_table()} == names | JOINT_ROWS


@pytest.mark.parametrize(
    ("method", "row"),
    [
        ("_believes_joints", "the starting joints are NaN"),
        ("_believes_joints", "the starting joints are 1e300"),
        ("_believes_joints", "the starting joints are one too few"),
        ("_believes_joints", "the starting joints are beyond their limits"),
        ("_believes_joints", "a chunk starts from a tool pose alone"),
        ("_in_range", "a joint is asked far above its upper limit"),
        ("_in_range", "a joint is asked far below its lower limit"),
        ("_in_range", "joint positions in another unit"),
    ],
)
def test_a_gate_that_checks_nothing_misses_a_row(method, row, of_joints, parameters, monkeypatch):
    monkeypatch.setattr(ChunkGate, method, lambda self, values: True)
    [fault] = [fault for fault in joint_space.table() if fault.name == row]
    [result] = run_faults(of_joints("panda"), parameters, [fault])
    assert not result.stopped


@pytest.mark.parametrize("row", ["all joints leap in one row", "a leap of 3 m in one row"])
def test_a_filter_that_only_reports_speeds_misses_a_row(row, of_joints, parameters, monkeypatch):
    """What the plan asks for too much is still said; but nothing slows it down."""
    monkeypatch.setattr(JointFilter, "capped", lambda self, velocities, jacobian, scale: velocities)
    contract = of_joints("panda")
    [fault] = [fault for fault in fault_table(contract) if fault.name == row]
    [result] = run_faults(contract, parameters, [fault])
    assert not result.stopped
    assert "velocity reached" in result.sentence


@pytest.mark.parametrize("robot", ["panda", "ur5e", "so101"])
def test_the_nearest_posture_brings_the_tool_there(robot, of_joints):
    contract = of_joints(robot)
    kinematics, home = Kinematics(contract), contract.joints.home
    middle = 0.5 * (contract.joints.lower + contract.joints.upper)
    goal = kinematics.placement(home + 0.2 * np.sign(middle - home))
    q = nearest_posture(kinematics, np.asarray(goal.translation), np.asarray(goal.rotation), home)
    assert np.linalg.norm(kinematics.placement(q).translation - goal.translation) < 2e-4
    far = nearest_posture(kinematics, np.array([9.0, 0.0, 0.5]), np.asarray(goal.rotation), home)
    assert ((far >= contract.joints.lower) & (far <= contract.joints.upper)).all()
