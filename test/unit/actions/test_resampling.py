"""A motion at another rate is the same motion."""

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.actions.resampling import rows_at, rows_within
from vla_ros.actions.rotation_vectors import matrix_from_rotation_vector, quaternion_from_matrix
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory
from vla_ros.robot.contract import load_contract
from vla_ros.types import Pose

SPACE = load_contract("panda").action
START = ArmStart(np.zeros(2), Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])), 0.08)


def line(rows: int) -> ArmTrajectory:
    """Joints, tool and turn at constant speed; the gripper closes with the third row."""
    places = np.arange(1, rows + 1)[:, None]
    turns = [
        quaternion_from_matrix(matrix_from_rotation_vector(np.array([0.0, 0.0, 0.1 * row]))) for row in places[:, 0]
    ]
    openings = np.where(places[:, 0] < 3, 0.08, 0.0)
    return ArmTrajectory(places * [0.3, -0.6], places * [0.03, 0.0, -0.01], np.stack(turns), openings)


@pytest.mark.parametrize(("step", "count"), [(3.0, 4), (1.0 / 3.0, 36), (1.0, 12), (0.7, 17)])
def test_rows_lie_on_the_same_line_at_another_rate(step, count):
    found = rows_at(line(12), START, 0.0, step, count)
    places = step * np.arange(1, count + 1)[:, None]
    assert found.joint_positions == pytest.approx(places * [0.3, -0.6])
    assert found.positions == pytest.approx(places * [0.03, 0.0, -0.01])
    angles = 2.0 * np.arctan2(found.quaternions[:, 2], found.quaternions[:, 3])
    assert angles == pytest.approx(0.1 * places[:, 0])


def test_there_and_back_changes_nothing_but_what_the_slower_rate_cannot_say():
    there = rows_at(line(12), START, 0.0, 1.0 / 3.0, 36)
    back = rows_at(there, START, 0.0, 3.0, 12)
    assert back.positions == pytest.approx(line(12).positions)
    assert np.array_equal(back.openings, line(12).openings)


def test_gripper_closes_when_its_row_begins():
    openings = rows_at(line(12), START, 0.0, 1.0 / 3.0, 36).openings
    assert np.array_equal(openings, [0.08] * 6 + [0.0] * 30)  # rows 1 and 2 are open: 0 to 0.2 s


def test_ends_are_held():
    found = rows_at(line(2), START, -5.0, 1.0, 12)
    assert found.positions[:4] == pytest.approx(np.zeros((4, 3)))
    assert found.positions[-3:] == pytest.approx(np.tile([0.06, 0.0, -0.02], (3, 1)))


def test_as_many_rows_as_the_time_holds():
    slow, fast = replace(SPACE, rate_hz=10.0, horizon=12), replace(SPACE, rate_hz=30.0, horizon=50)
    assert rows_within(50, fast, slow) == 12  # 16 would be there
    assert rows_within(12, slow, fast) == 36
    assert rows_within(30, fast, slow) == 10
    assert rows_within(1, fast, slow) == 1
