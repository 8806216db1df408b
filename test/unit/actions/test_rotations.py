import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from vla_ros.actions.rotation_vectors import (
    matrix_from_rotation_vector,
    quaternion_from_matrix,
    rotation_vector_from_matrix,
    slerp,
)
from vla_ros.actions.rotations import (
    check_euler_order,
    euler_from_matrix,
    matrix_from_euler,
    matrix_from_quaternion,
    matrix_from_six_d,
    six_d_from_matrix,
)
from vla_ros.errors import ContractError

vectors = arrays(np.float64, 3, elements=st.floats(-3.0, 3.0))
quaternions = arrays(np.float64, 4, elements=st.floats(-1.0, 1.0)).filter(lambda q: np.linalg.norm(q) > 0.1)


def unit(quaternion):
    return quaternion / np.linalg.norm(quaternion)


@given(quaternions)
def test_a_quaternion_becomes_the_matrix_that_scipy_makes_of_it(quaternion):
    q = unit(quaternion)
    np.testing.assert_allclose(matrix_from_quaternion(q), Rotation.from_quat(q).as_matrix(), atol=1e-12)


@given(quaternions)
def test_quaternion_to_matrix_and_back_is_the_same_rotation_with_w_not_negative(quaternion):
    q = unit(quaternion)
    back = quaternion_from_matrix(matrix_from_quaternion(q))
    assert back[3] >= 0.0
    assert abs(back @ q) == pytest.approx(1.0, abs=1e-12)


@given(vectors)
def test_a_rotation_vector_becomes_the_matrix_that_scipy_makes_of_it(vector):
    expected = Rotation.from_rotvec(vector).as_matrix()
    np.testing.assert_allclose(matrix_from_rotation_vector(vector), expected, atol=1e-10)


@given(vectors.filter(lambda v: np.linalg.norm(v) < np.pi - 1e-3))
def test_rotation_vector_to_matrix_and_back_is_the_same_vector(vector):
    np.testing.assert_allclose(rotation_vector_from_matrix(matrix_from_rotation_vector(vector)), vector, atol=1e-7)


@given(quaternions)
def test_six_numbers_to_matrix_and_back_are_the_same(quaternion):
    matrix = matrix_from_quaternion(unit(quaternion))
    np.testing.assert_allclose(matrix_from_six_d(six_d_from_matrix(matrix)), matrix, atol=1e-12)


@given(arrays(np.float64, 6, elements=st.floats(-5.0, 5.0)))
def test_any_six_numbers_make_a_rotation_or_are_refused(columns):
    try:
        matrix = matrix_from_six_d(columns)
    except ValueError:
        first, second = columns[:3], columns[3:]
        assert np.linalg.norm(np.cross(first, second)) < 1e-4  # only degenerate ones may be refused
        return
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


def test_a_quarter_turn_about_z_takes_x_to_y():
    matrix = matrix_from_quaternion(np.array([0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)]))
    np.testing.assert_allclose(matrix @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(rotation_vector_from_matrix(matrix), [0.0, 0.0, np.pi / 2], atol=1e-12)


@pytest.mark.parametrize("norm", [0.0, 0.5, 0.998, 1.002, np.nan, np.inf, 1e300])
def test_a_quaternion_that_is_no_unit_is_refused(norm):
    with pytest.raises(ValueError, match="norm"):
        matrix_from_quaternion(np.array([0.0, 0.0, 0.0, norm]))


@pytest.mark.parametrize("norm", [0.9991, 1.0009])
def test_a_quaternion_that_is_nearly_unit_is_normalised(norm):
    np.testing.assert_allclose(matrix_from_quaternion(np.array([0.0, 0.0, 0.0, norm])), np.eye(3), atol=1e-15)


@given(quaternions, quaternions, st.floats(0.0, 1.0))
def test_slerp_goes_the_shortest_way_at_constant_speed(start, end, share):
    a, b = unit(start), unit(end)
    angle = (Rotation.from_quat(a).inv() * Rotation.from_quat(b)).magnitude()
    if angle > np.pi - 1e-3:
        return  # two ways are equally short
    between = Rotation.from_quat(slerp(a, b, share))
    assert (Rotation.from_quat(a).inv() * between).magnitude() == pytest.approx(share * angle, abs=1e-6)
    assert (between.inv() * Rotation.from_quat(b)).magnitude() == pytest.approx((1 - share) * angle, abs=1e-6)


ORDERS = [
    "".join(axes)
    for letters in ("xyz", "XYZ")
    for axes in itertools.product(letters, repeat=3)
    if axes[0] != axes[1] != axes[2]
]


@pytest.mark.parametrize("order", ORDERS)
def test_euler_angles_are_scipys_in_every_order(order):
    for angles in np.random.default_rng(0).uniform(-3.0, 3.0, (20, 3)):
        matrix = matrix_from_euler(angles, order)
        np.testing.assert_allclose(matrix, Rotation.from_euler(order, angles).as_matrix(), atol=1e-12)
        expected = Rotation.from_matrix(matrix).as_euler(order)
        np.testing.assert_allclose(euler_from_matrix(matrix, order), expected, atol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("middle", [0.5 * np.pi, -0.5 * np.pi, 0.0, np.pi])
def test_euler_angles_at_the_singularity_are_the_same_rotation(order, middle):
    matrix = matrix_from_euler(np.array([0.3, middle, 0.4]), order)
    np.testing.assert_allclose(matrix_from_euler(euler_from_matrix(matrix, order), order), matrix, atol=1e-9)


@pytest.mark.parametrize("order", ["", "xy", "xxy", "xyY", "rpy", "xyzx"])
def test_order_that_is_none_is_refused(order):
    with pytest.raises(ContractError, match="euler_order"):
        check_euler_order(order)
