import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation as ScipyRotation

from vla_ros.actions.decoding import PoseTrajectory, decode, encode
from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import Reference
from vla_ros.actions.rotations import Rotation
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ChunkError
from vla_ros.types import Pose

START = Pose([0.5, 0.1, 0.3], [1.0, 0.0, 0.0, 0.0])
MAX_OPENING = 0.08

FORMS = ("none", "rotation_vector", "quaternion", "six_d")

specifications = st.builds(
    ActionSpace.of_one_tool,
    frame=st.just("base"),
    reference=st.sampled_from(Reference),
    rotation=st.sampled_from(FORMS),
    gripper=st.sampled_from(GripperConvention),
    rate_hz=st.just(10.0),
    horizon=st.just(8),
)


def specification(**changes):
    values = {
        "frame": "base",
        "reference": "relative",
        "rotation": "rotation_vector",
        "gripper": "open_is_one",
        "rate_hz": 10.0,
        "horizon": 8,
    } | changes
    return ActionSpace.of_one_tool(**values)


def random_trajectory(seed, rows=5):
    rng = np.random.default_rng(seed)
    quaternions = ScipyRotation.random(rows, random_state=seed).as_quat()
    quaternions *= np.where(quaternions[:, 3:] < 0.0, -1.0, 1.0)
    return PoseTrajectory(rng.uniform(-1.0, 1.0, (rows, 3)), quaternions, rng.uniform(0.0, MAX_OPENING, rows))


@given(specifications, st.integers(0, 10_000))
def test_encode_and_decode_are_inverse_for_every_convention(convention, seed):
    trajectory = random_trajectory(seed)
    actions = encode(trajectory, convention, START, MAX_OPENING)
    assert actions.shape == (5, convention.width)
    back = decode(actions, convention, START, MAX_OPENING)
    np.testing.assert_allclose(back.positions, trajectory.positions, atol=1e-12)
    if convention.only_motion.rotation is Rotation.NONE:
        np.testing.assert_allclose(back.quaternions, np.tile(START.quaternion, (5, 1)), atol=1e-12)
    else:
        same = np.abs(np.sum(back.quaternions * trajectory.quaternions, axis=1))
        np.testing.assert_allclose(same, 1.0, atol=1e-9)
    if convention.only_gripper is None:
        assert back.openings is None
    else:
        np.testing.assert_allclose(back.openings, trajectory.openings, atol=1e-12)


def test_relative_rows_count_from_the_start_in_axes_of_the_base():
    actions = np.array([[0.1, 0.0, 0.0, 0.0, 0.0, np.pi / 2, 1.0], [0.2, 0.0, -0.1, 0.0, 0.0, 0.0, 0.25]])
    result = decode(actions, specification(), START, MAX_OPENING)
    np.testing.assert_allclose(result.positions, [[0.6, 0.1, 0.3], [0.7, 0.1, 0.2]])
    # The tool points down (half a turn about x); a quarter turn about the base's z brings its x axis to the base's y.
    x_axis = ScipyRotation.from_quat(result.quaternions[0]).apply([1.0, 0.0, 0.0])
    np.testing.assert_allclose(x_axis, [0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(result.openings, [0.08, 0.02])


def test_delta_rows_add_up():
    actions = np.tile([0.01, 0.0, 0.0, 0.0, 0.0, np.pi / 8, 0.0], (4, 1))
    result = decode(actions, specification(reference="delta", gripper="closed_is_one"), START, MAX_OPENING)
    np.testing.assert_allclose(result.positions[:, 0], [0.51, 0.52, 0.53, 0.54])
    turned = ScipyRotation.from_quat(result.quaternions[-1]) * ScipyRotation.from_quat(START.quaternion).inv()
    np.testing.assert_allclose(turned.as_rotvec(), [0.0, 0.0, np.pi / 2], atol=1e-12)
    np.testing.assert_allclose(result.openings, MAX_OPENING)


def test_absolute_rows_do_not_depend_on_the_start():
    actions = np.array([[0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 1.0, 0.05]])
    result = decode(actions, specification(reference="absolute", rotation="quaternion", gripper="opening"), START, 1.0)
    np.testing.assert_allclose(result.positions, [[0.1, 0.2, 0.3]])
    np.testing.assert_allclose(result.quaternions, [[0.0, 0.0, 0.0, 1.0]])
    np.testing.assert_allclose(result.openings, [0.05])


@pytest.mark.parametrize("shape", [(7,), (0, 6), (3, 6), (3, 8), (2, 3, 7)])
def test_a_table_of_another_shape_is_refused(shape):
    with pytest.raises(ChunkError, match="shape"):
        decode(np.zeros(shape), specification(), START, MAX_OPENING)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(7))
def test_values_that_are_not_finite_are_refused_wherever_they_stand(value, column):
    actions = np.zeros((3, 7))
    actions[1, column] = value
    with pytest.raises(ChunkError, match="finite"):
        decode(actions, specification(), START, MAX_OPENING)


@pytest.mark.parametrize("rotation", ["quaternion", "six_d"])
def test_a_rotation_of_zeros_is_refused(rotation):
    convention = specification(rotation=rotation)
    with pytest.raises(ChunkError, match="norm"):
        decode(np.zeros((2, convention.width)), convention, START, MAX_OPENING)


def test_openings_that_are_needed_must_be_there():
    bare = PoseTrajectory(np.zeros((1, 3)), np.array([[0.0, 0.0, 0.0, 1.0]]), None)
    with pytest.raises(ChunkError, match="openings"):
        encode(bare, specification(), START, MAX_OPENING)
