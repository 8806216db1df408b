"""The same motion, written differently; or a refusal that says what is missing."""

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation as Scipy

from vla_ros.actions.decoding import decode
from vla_ros.actions.space import ActionSpace
from vla_ros.data.conventions import absolute_gripper, convert
from vla_ros.data.errors import ConventionError
from vla_ros.types import Pose

ALL = [
    ActionSpace.of_one_tool("base", reference, rotation, gripper, 10.0, 1)
    for reference in ("absolute", "relative", "delta")
    for rotation in ("rotation_vector", "quaternion", "six_d")
    for gripper in ("opening", "open_is_one", "closed_is_one")
]
POSE = Pose(np.array([0.4, -0.1, 0.3]), Scipy.from_euler("xyz", (3.0, 0.2, -0.4)).as_quat())


@pytest.mark.parametrize(("given", "wanted"), list(itertools.product(ALL[::4], ALL)))
def test_the_motion_stays_the_same(given, wanted):
    rotation = {3: lambda r: r.as_rotvec(), 4: lambda r: r.as_quat(), 6: lambda r: r.as_matrix()[:, :2].T.ravel()}
    width = given.width - 4
    action = np.concatenate([(0.05, -0.02, 0.01), rotation[width](Scipy.from_euler("xyz", (0.1, 0.2, 0.3))), [0.04]])
    converted = convert(action, given, wanted, POSE, 0.08)
    first, second = (
        decode(row[None], spec, POSE, 0.08) for row, spec in ((action, given), (converted, wanted))
    )  # the poses that both ask for
    np.testing.assert_allclose(first.positions, second.positions, atol=1e-9)
    np.testing.assert_allclose(first.openings, second.openings, atol=1e-9)
    turned = Scipy.from_quat(first.quaternions[0]).inv() * Scipy.from_quat(second.quaternions[0])
    assert turned.magnitude() < 1e-6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame": "camera"}, "frame is 'base' there, 'camera' here"),
        ({"rate_hz": 5.0}, r"rate_hz is 10\.0 there, 5\.0 here"),
        ({"rotation": "none"}, "rotation"),
        ({"gripper": "none"}, "gripper"),
        ({"gripper": "opening"}, "full opening"),
        ({"reference": "absolute"}, "where the tool is"),
    ],
)
def test_what_cannot_be_converted_is_refused(changes, words):
    lines = {"frame": "base", "reference": "delta", "rotation": "rotation_vector", "gripper": "open_is_one",
             "rate_hz": 10.0, "horizon": 1}  # fmt: skip
    given, wanted = ActionSpace.of_one_tool(**lines), ActionSpace.of_one_tool(**lines | changes)
    with pytest.raises(ConventionError, match=words):
        convert(np.zeros(7), given, wanted, None, None)


def test_a_gripper_that_is_told_nothing_stays():
    np.testing.assert_array_equal(absolute_gripper(np.array([0.0, 0.5, 0.0, -1.0, 0.0])), [1, 0, 0, 1, 1])
