"""Every fault of the table is stopped; `test_mutations` shows that each row can turn red."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.selftest.faults import places
from vla_ros.safety.selftest.pace import Pace, arm_pace_of, pace_of
from vla_ros.safety.selftest.table import fault_table, run_faults
from vla_ros.safety.selftest.trial import Fault

TABLE = {fault.name: fault for fault in fault_table()}

SOUND = [
    TABLE[name]
    for name in (
        "the policy misses some heartbeats",
        "the policy misses many heartbeats",
        "one inference of the policy fails",
        "a measured velocity is denormal",
        "one state comes late",
        "every other state is an old one",
        "4 ticks are missed",
        "reset while the arm still moves",
    )
]
"""In these the plan itself is a good one, and nothing of it must be corrected."""


@pytest.fixture(scope="module")
def rows(contract, parameters):
    return {row.name: row for row in run_faults(contract, parameters)}


def test_there_are_many_faults_each_under_a_name_of_its_own():
    assert len(fault_table()) >= 40
    assert len(TABLE) == len(fault_table())


def test_every_fault_is_stopped(rows):
    assert [f"{row.name}: expected {row.expected}, {row.sentence}" for row in rows.values() if not row.stopped] == []


def test_a_layer_that_raises_let_the_fault_through(contract, parameters):
    fault = Fault("breaks", lambda trial: 1 / 0, frozenset(), frozenset(), moving=False)
    [result] = run_faults(contract, parameters, [fault])
    assert not result.stopped
    assert "ZeroDivisionError" in result.got


@pytest.mark.parametrize("robot", ["fr3", "so101", "template", "ur5e"])
def test_every_shipped_robot_can_be_armed(robot, parameters):
    """The same table, to the scale and the pace of each arm: a row that is not stopped would forbid to arm it."""
    assert [row for row in run_faults(load_contract(robot), parameters) if not row.stopped] == []


@pytest.mark.parametrize("speed", [0.05, 0.1])
def test_an_arm_whose_tool_is_made_slow_can_be_armed(contract, parameters, speed):
    """As docs/robots.md asks for before a first motion; a sound plan must not be one that it is held back for."""
    slow = replace(contract, cartesian=replace(contract.cartesian, linear_velocity=speed))
    rows = run_faults(slow, parameters, SOUND)
    assert [f"{row.name}: expected {row.expected}, {row.sentence}" for row in rows if not row.stopped] == []


def test_weak_joints_do_not_let_the_tool_be_driven_aside(contract, parameters):
    """They need all their acceleration to stop before the face, and had none left to keep the tool from speeding up."""
    joints = replace(contract.joints, acceleration=np.full(7, 5.0), jerk=np.full(7, 500.0))
    tool = replace(contract.cartesian, linear_velocity=0.1, linear_acceleration=2.0)
    weak = replace(contract, joints=joints, cartesian=tool)
    faults = [fault for fault in places.table() if fault.name == "the target is in front of the workspace"]
    assert [row.sentence for row in run_faults(weak, parameters, faults) if not row.stopped] == []


@pytest.mark.parametrize("size", [(0.5, 0.25, 0.6), (0.12, 0.12, 0.12)])
def test_an_arm_whose_workspace_is_small_can_be_armed(contract, parameters, size):
    """The arm is as large as ever: what is in its way, and what it cannot reach, must not shrink with the workspace.

    A sound plan must fit into it.
    """
    home, half = Kinematics(contract).forward(contract.joints.home).position, 0.5 * np.array(size)
    lower = np.maximum(home - half, contract.cartesian.workspace_lower)
    cartesian = replace(contract.cartesian, workspace_lower=lower, workspace_upper=lower + size)
    rows = run_faults(replace(contract, cartesian=cartesian), parameters, [*places.table(), *SOUND])
    assert [f"{row.name}: expected {row.expected}, {row.sentence}" for row in rows if not row.stopped] == []


def test_times_and_distances_are_those_of_the_arm(contract):
    """The Panda is what the table is written for; half as wide and half as fast it is, to scale, the same."""
    assert pace_of(contract) == Pace(1.0, 1.0)
    box = contract.cartesian
    narrow = replace(box, workspace_lower=0.5 * box.workspace_lower, workspace_upper=0.5 * box.workspace_upper)
    small = replace(contract, cartesian=replace(narrow, linear_velocity=0.5 * box.linear_velocity))
    assert pace_of(small) == Pace(0.5, 1.0)
    weak = replace(contract, cartesian=replace(box, linear_acceleration=0.5 * box.linear_acceleration))
    assert pace_of(weak) == Pace(1.0, 2.0)
    assert pace_of(weak).ticks(31) == 62


def test_the_size_of_the_arm_is_not_that_of_its_workspace(contract):
    box = contract.cartesian
    slow_and_narrow = replace(box, workspace_upper=0.1 + box.workspace_lower, linear_velocity=0.1)
    pace = arm_pace_of(replace(contract, cartesian=slow_and_narrow))
    assert pace.scale == arm_pace_of(contract).scale == pytest.approx(1.0, rel=0.01)
    assert pace.stretch == pytest.approx(5.0, rel=0.01)  # the whole way at a fifth of the table's speed
    assert arm_pace_of(load_contract("so101")).scale == pytest.approx(0.44, rel=0.01)
