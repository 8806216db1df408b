from __future__ import annotations

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.robot.joint_states.reader import JointStateReader
from vla_ros.robot.joint_states.report import JointFault, JointReport, JointReportError

CONTRACT = load_contract("panda")
ARM, FINGERS = CONTRACT.joints.names, CONTRACT.gripper.names
HOME, N = CONTRACT.joints.home, CONTRACT.joints.count
SPEED = 0.3


def report(stamp, velocities=None, **changes):
    """All joints moving at `SPEED`; `velocities` are those of the arm."""
    positions = [*(HOME + SPEED * stamp).tolist(), 0.02, 0.02]
    values = {
        "names": [*ARM, *FINGERS],
        "positions": positions,
        "stamp": stamp,
        "velocities": [] if velocities is None else [*velocities, 0.0, 0.0],
    } | changes
    return JointReport(**values)


@pytest.fixture
def reader():
    return JointStateReader(CONTRACT)


def test_reported_velocities_are_taken_as_they_are(reader):
    reading = reader.read(report(1.0, np.arange(7.0)), 5.0)
    np.testing.assert_array_equal(reading.velocities, np.arange(7.0))
    assert (reading.stamp, reading.opening, reading.received) == (1.0, pytest.approx(0.04), 5.0)
    assert not reader.differentiates


def test_missing_velocities_are_computed_from_positions(reader):
    readings = [reader.read(report(0.01 * i), 5.0) for i in range(30)]
    assert readings[:2] == [None, None], "nothing is known of the first states"
    np.testing.assert_allclose(readings[-1].velocities, SPEED, atol=1e-9)
    assert reader.differentiates


def test_one_velocity_that_is_nan_is_computed_and_the_others_kept(reader):
    velocities = np.arange(7.0)
    velocities[4] = np.nan
    for i in range(30):
        reading = reader.read(report(0.01 * i, velocities), 0.01 * i)
    np.testing.assert_allclose(reading.velocities, [0.0, 1.0, 2.0, 3.0, SPEED, 5.0, 6.0], atol=1e-9)


def test_a_velocity_that_goes_missing_now_and_then_costs_no_state(reader):
    readings = [reader.read(report(0.01 * i, np.full(7, np.nan if i % 7 == 6 else SPEED)), 5.0) for i in range(30)]
    assert None not in readings


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_position_that_is_no_number_is_refused(reader, value):
    for i in range(30):
        reader.read(report(0.01 * i), 5.0)
    positions = list(report(0.3).positions)
    positions[2] = value
    with pytest.raises(JointReportError) as caught:
        reader.read(report(0.3, positions=positions), 5.0)
    assert caught.value.fault is (JointFault.OUT_OF_RANGE if value == 1e300 else JointFault.NOT_FINITE)
    np.testing.assert_allclose(reader.read(report(0.31), 5.0).velocities, SPEED, atol=1e-9)


@pytest.mark.parametrize("velocities", [np.full(7, np.inf), np.full(7, 1e4)])
def test_an_absurd_velocity_is_refused(reader, velocities):
    with pytest.raises(JointReportError, match="not finite, or over 1000"):
        reader.read(report(1.0, velocities), 5.0)


def test_what_has_no_joint_of_the_robot_is_of_another_machine(reader):
    assert reader.read(JointReport(["wheel"], [0.0], [0.0], 1.0), 5.0) is None
