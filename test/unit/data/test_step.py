"""A step is refused when a number in it cannot be, or does not fit its convention."""

import numpy as np
import pytest

from vla_ros.data.errors import ConventionError, DataError, NotFiniteError
from vla_ros.data.reader import DatasetDescription


def test_a_step_knows_where_the_tool_is(demonstrations):
    step = demonstrations.step(0, 2, 5)
    np.testing.assert_array_equal(step.end_effector.position, step.proprioception[1:4])
    np.testing.assert_array_equal(step.end_effector.quaternion, (0.0, 0.0, 0.0, 1.0))
    assert demonstrations.step(0, 0, 1, proprioception=(1.0,), proprioception_names=("a",)).end_effector is None


def test_what_was_handed_over_cannot_be_changed(demonstrations):
    with pytest.raises(ValueError, match="read-only"):
        demonstrations.step(0, 0, 1).action[0] = 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [("action", np.full(7, np.nan)), ("proprioception", np.full(9, np.inf)), ("timestamp", float("nan"))],
)
def test_nan_never_passes(demonstrations, field, value):
    with pytest.raises(NotFiniteError, match=f"episode '000003', step 4: {field}"):
        demonstrations.step(3, 4, 9, **{field: value})


def test_an_action_of_another_width_is_of_another_convention(demonstrations):
    with pytest.raises(ConventionError, match=r"\(6,\).*\(7,\)"):
        demonstrations.step(0, 0, 1, action=np.zeros(6))


def test_shapes_must_fit(demonstrations):
    with pytest.raises(DataError, match="9 names"):
        demonstrations.step(0, 0, 1, proprioception=np.zeros(3))
    with pytest.raises(DataError, match="'front' gave"):
        demonstrations.step(0, 0, 1, images={"front": np.zeros((4, 4), np.uint8)})


def test_a_wrong_convention_is_named_line_by_line(demonstrations):
    other = type(demonstrations.convention).of_one_tool("base", "delta", "rotation_vector", "closed_is_one", 10.0, 12)
    with pytest.raises(ConventionError, match=r"reference: 'relative' here, 'delta' there; arm/gripper.gripper: 'open"):
        demonstrations.description.require(other)
    demonstrations.description.require(
        type(other).of_one_tool("base", "relative", "rotation_vector", "open_is_one", 10.0, 12)
    )


def test_the_convention_of_a_step_has_a_horizon_of_one(demonstrations):
    long = type(demonstrations.convention).of_one_tool("base", "relative", "rotation_vector", "open_is_one", 10.0, 12)
    assert DatasetDescription("x", long, (), ()).convention.horizon == 1
