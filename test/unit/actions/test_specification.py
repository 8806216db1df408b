from dataclasses import replace

import pytest

from vla_ros.actions.specification import ActionSpecification, GripperConvention, Reference, Rotation
from vla_ros.errors import ContractError

PLAIN = {"frame": "base", "reference": "relative", "rotation": "rotation_vector", "gripper": "open_is_one",
         "rate_hz": 10.0, "horizon": 12}  # fmt: skip


@pytest.mark.parametrize(
    ("rotation", "gripper", "width"),
    [("none", "none", 3), ("none", "opening", 4), ("rotation_vector", "none", 6), ("rotation_vector", "open_is_one", 7),
     ("quaternion", "closed_is_one", 8), ("six_d", "opening", 10)],
)  # fmt: skip
def test_width_counts_position_rotation_and_gripper(rotation, gripper, width):
    assert ActionSpecification.from_dict(PLAIN | {"rotation": rotation, "gripper": gripper}).width == width


def test_plain_values_and_back_are_the_same():
    specification = ActionSpecification.from_dict(PLAIN)
    assert specification.to_dict() == PLAIN
    assert ActionSpecification.from_dict(specification.to_dict()) == specification


@pytest.mark.parametrize(
    "change",
    [{"frame": "world"}, {"reference": Reference.DELTA}, {"rotation": Rotation.SIX_D},
     {"gripper": GripperConvention.CLOSED_IS_ONE}, {"rate_hz": 10.5}, {"horizon": 13}],
)  # fmt: skip
def test_every_line_changes_the_fingerprint_and_is_named_in_the_differences(change):
    mine = ActionSpecification.from_dict(PLAIN)
    theirs = replace(mine, **change)
    assert mine.fingerprint != theirs.fingerprint
    (line,) = mine.differences(theirs)
    assert line.startswith(next(iter(change)))


def test_the_fingerprint_does_not_depend_on_the_order_of_the_lines():
    backwards = dict(reversed(PLAIN.items()))
    assert ActionSpecification.from_dict(backwards).fingerprint == ActionSpecification.from_dict(PLAIN).fingerprint


@pytest.mark.parametrize("line", sorted(PLAIN))
def test_a_missing_line_is_refused_by_name(line):
    with pytest.raises(ContractError, match=line):
        ActionSpecification.from_dict({key: value for key, value in PLAIN.items() if key != line})


@pytest.mark.parametrize(
    "change",
    [{"colour": "red"}, {"reference": "sideways"}, {"rotation": "euler"}, {"rate_hz": 0.0}, {"rate_hz": float("nan")},
     {"rate_hz": 1001.0}, {"horizon": 0}, {"horizon": 1025}, {"rate_hz": "fast"}],
)  # fmt: skip
def test_a_wrong_line_is_refused(change):
    with pytest.raises(ContractError):
        ActionSpecification.from_dict(PLAIN | change)
