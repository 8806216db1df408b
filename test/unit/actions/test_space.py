import pytest

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ContractError

PLAIN = {
    "frame": "base",
    "reference": "relative",
    "rotation": "rotation_vector",
    "gripper": "open_is_one",
    "rate_hz": 10.0,
    "horizon": 12,
}


@pytest.mark.parametrize(
    ("rotation", "gripper", "width"),
    [
        ("none", "none", 3),
        ("none", "opening", 4),
        ("rotation_vector", "none", 6),
        ("rotation_vector", "open_is_one", 7),
        ("quaternion", "closed_is_one", 8),
        ("six_d", "opening", 10),
    ],
)
def test_width_counts_position_rotation_and_gripper(rotation, gripper, width):
    assert ActionSpace.from_dict(PLAIN | {"rotation": rotation, "gripper": gripper}).width == width


def test_specification_of_one_arm_becomes_two_groups():
    space = ActionSpace.from_dict(PLAIN)
    assert space.to_dict() == {
        "groups": [
            {"group": "arm/ee_delta", "reference": "relative", "frame": "base", "rotation": "rotation_vector"},
            {"group": "arm/gripper", "gripper": "open_is_one"},
        ],
        "rate_hz": 10.0,
        "horizon": 12,
    }
    assert ActionSpace.from_dict(space.to_dict()) == space
    assert ActionSpace.from_dict(PLAIN | {"reference": "absolute"}).groups[0].name == "arm/ee_pose"


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"frame": "world"}, ["arm/ee_delta.frame"]),
        ({"reference": "delta"}, ["arm/ee_delta.reference"]),
        ({"rotation": "six_d"}, ["arm/ee_delta.rotation"]),
        ({"gripper": "closed_is_one"}, ["arm/gripper.gripper"]),
        ({"rate_hz": 10.5}, ["rate_hz"]),
        ({"horizon": 13}, ["horizon"]),
        ({"gripper": "none"}, ["groups", "arm/gripper.gripper"]),
    ],
)
def test_every_line_changes_the_fingerprint_and_is_named_in_the_differences(change, lines):
    mine, theirs = ActionSpace.from_dict(PLAIN), ActionSpace.from_dict(PLAIN | change)
    assert mine.fingerprint != theirs.fingerprint
    assert [line.partition(":")[0] for line in mine.differences(theirs)] == lines


def test_the_fingerprint_does_not_depend_on_the_order_of_the_lines():
    backwards = dict(reversed(PLAIN.items()))
    assert ActionSpace.from_dict(backwards).fingerprint == ActionSpace.from_dict(PLAIN).fingerprint


@pytest.mark.parametrize("line", sorted(PLAIN))
def test_a_missing_line_is_refused_by_name(line):
    with pytest.raises(ContractError, match=line):
        ActionSpace.from_dict({key: value for key, value in PLAIN.items() if key != line})


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "red"},
        {"reference": "sideways"},
        {"rotation": "euler"},
        {"rate_hz": 0.0},
        {"rate_hz": float("nan")},
        {"rate_hz": 1001.0},
        {"horizon": 0},
        {"horizon": 1025},
        {"rate_hz": "fast"},
    ],
)
def test_a_wrong_line_is_refused(change):
    with pytest.raises(ContractError):
        ActionSpace.from_dict(PLAIN | change)


ALOHA = {
    "groups": [
        {"group": "left/joint_position", "joints": 6},
        {"group": "left/gripper", "gripper": "open_is_one"},
        {"group": "right/joint_position", "joints": 6},
        {"group": "right/gripper", "gripper": "open_is_one"},
    ],
    "rate_hz": 50.0,
    "horizon": 100,
}


def test_groups_of_two_arms_have_their_columns():
    space = ActionSpace.from_dict(ALOHA)
    assert space.arms == ("left", "right")
    assert space.width == 14
    assert space.columns == {
        "left/joint_position": slice(0, 6),
        "left/gripper": slice(6, 7),
        "right/joint_position": slice(7, 13),
        "right/gripper": slice(13, 14),
    }
    assert space.motion("right").name == "right/joint_position"
    assert space.to_dict() == ALOHA
    with pytest.raises(ContractError, match=r"arms \['left', 'right'\], expected one"):
        space.only_motion  # noqa: B018


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"group": "joint_position", "joints": 6}, "expected <arm>/<quantity>"),
        ({"group": "arm/torque", "joints": 6}, "expected <arm>/<quantity>"),
        ({"group": "arm/joint_position"}, r"missing \['joints'\]"),
        ({"group": "arm/joint_position", "joints": 0}, "joints is 0, expected at least 1"),
        ({"group": "arm/joint_position", "joints": 2.5}, "expected a whole number"),
        ({"group": "arm/joint_position", "joints": 6, "frame": "base"}, r"unknown \['frame'\]"),
        ({"group": "arm/joint_delta", "joints": 6, "reference": "absolute"}, "expected relative or delta"),
        ({"group": "arm/joint_position", "joints": 2, "unit": "percent"}, "needs low and high"),
        ({"group": "arm/joint_position", "joints": 2, "low": [0, 0], "high": [1]}, "2 low and 1 high bounds"),
        ({"group": "arm/joint_position", "joints": 1, "low": [1], "high": [1]}, "low < high"),
        ({"group": "arm/joint_position", "joints": 1, "low": [0], "high": [float("nan")]}, "finite"),
        ({"group": "arm/joint_position", "joints": 1, "unit": "turns"}, "unit is 'turns', expected si, degrees"),
        ({"group": "arm/ee_pose", "frame": "tool", "rotation": "six_d"}, "expected a fixed one"),
        ({"group": "arm/ee_pose", "frame": "base", "rotation": "euler"}, "euler_order"),
        ({"group": "arm/ee_pose", "frame": "base", "rotation": "euler", "euler_order": "xxy"}, "euler_order is 'xxy'"),
        ({"group": "arm/ee_pose", "frame": "base", "rotation": "six_d", "euler_order": "xyz"}, "belongs to rotation"),
        ({"group": "arm/ee_pose", "frame": "base", "rotation": "six_d", "unit": "degrees"}, "fits no six_d"),
        ({"group": "arm/gripper", "gripper": "none"}, "expected a convention"),
        ({"group": "arm/gripper", "gripper": "opening", "unit": "percent", "low": [0], "high": [1]}, "has its unit"),
    ],
)
def test_group_that_contradicts_itself_is_refused(group, words):
    with pytest.raises(ContractError, match=words):
        ActionSpace.from_dict({"groups": [group], "rate_hz": 10.0, "horizon": 1})


@pytest.mark.parametrize(
    "groups",
    [
        [],
        [{"group": "arm/gripper", "gripper": "opening"}],
        [{"group": "arm/joint_position", "joints": 6}, {"group": "arm/joint_velocity", "joints": 6}],
        [{"group": "arm/joint_position", "joints": 6}, {"group": "arm/joint_position", "joints": 6}],
        ["arm/joint_position"],
        "arm/joint_position",
    ],
)
def test_every_arm_is_moved_by_one_group(groups):
    with pytest.raises(ContractError):
        ActionSpace.from_dict({"groups": groups, "rate_hz": 10.0, "horizon": 1})
