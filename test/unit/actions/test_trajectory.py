"""Chunks of every kind of group become trajectories, and back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation as Scipy

from vla_ros.actions.space import ActionSpace
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, decode_chunk, encode_chunk
from vla_ros.errors import ChunkError
from vla_ros.types import Pose

START = ArmStart(
    np.array([0.1, -0.2, 0.3]), Pose([0.5, 0.1, 0.3], Scipy.from_euler("xyz", [3, 0.2, -0.4]).as_quat()), 0.08
)
BOUNDS = {"low": [-2.0, -1.0, 0.0], "high": [2.0, 3.0, 1.0]}


def space(*groups, rate_hz=10.0):
    return ActionSpace.from_dict({"groups": list(groups), "rate_hz": rate_hz, "horizon": 8})


def joints(quantity, **lines):
    return {"group": f"arm/{quantity}", "joints": 3} | lines


def tool(quantity, rotation="rotation_vector", frame="base", **lines):
    return {"group": f"arm/{quantity}", "rotation": rotation, "frame": frame} | lines


@pytest.mark.parametrize(
    "group",
    [
        joints("joint_position"),
        joints("joint_position", unit="degrees"),
        joints("joint_position", unit="percent", **BOUNDS),
        joints("joint_position", unit="normalized", **BOUNDS),
        joints("joint_delta", reference="relative"),
        joints("joint_delta", reference="delta", unit="degrees"),
        joints("joint_velocity"),
        joints("joint_velocity", unit="normalized", **BOUNDS),
    ],
)
def test_joint_groups_are_inverse(group):
    positions = np.random.default_rng(1).uniform(-1.0, 1.0, (5, 3))
    actions = encode_chunk({"arm": ArmTrajectory(joint_positions=positions)}, space(group), {"arm": START})
    back = decode_chunk(actions, space(group), {"arm": START})["arm"]
    np.testing.assert_allclose(back.joint_positions, positions, atol=1e-12)
    assert back.positions is back.openings is None


@pytest.mark.parametrize("frame", ["base", "tool"])
@pytest.mark.parametrize("reference", ["relative", "delta"])
@pytest.mark.parametrize(
    "form",
    [
        {"rotation": "rotation_vector"},
        {"rotation": "rotation_vector", "unit": "degrees"},
        {"rotation": "rotation_vector", "unit": "normalized", "low": [-0.1] * 6, "high": [0.1] * 6},
        {"rotation": "euler", "euler_order": "xyz"},
        {"rotation": "euler", "euler_order": "ZYX"},
        {"rotation": "quaternion"},
        {"rotation": "quaternion_wxyz"},
        {"rotation": "six_d"},
    ],
)
def test_tool_groups_are_inverse(form, reference, frame):
    rng = np.random.default_rng(2)
    wanted = ArmTrajectory(
        positions=rng.uniform(-1.0, 1.0, (5, 3)),
        quaternions=Scipy.random(5, random_state=3).as_quat(),
        openings=rng.uniform(0.0, 0.08, 5),
    )
    both = space(
        tool("ee_delta", frame=frame, reference=reference, **form), {"group": "arm/gripper", "gripper": "open_is_plus"}
    )
    back = decode_chunk(encode_chunk({"arm": wanted}, both, {"arm": START}), both, {"arm": START})["arm"]
    np.testing.assert_allclose(back.positions, wanted.positions, atol=1e-12)
    np.testing.assert_allclose(np.abs((back.quaternions * wanted.quaternions).sum(axis=1)), 1.0, atol=1e-9)
    np.testing.assert_allclose(back.openings, wanted.openings, atol=1e-12)


def test_tool_frame_moves_along_the_tool():
    """A tool that points down goes down by its own z."""
    down = ArmStart(np.zeros(0), Pose([0.5, 0.0, 0.3], [1.0, 0.0, 0.0, 0.0]), 0.08)
    rows = np.tile([0.0, 0.0, 0.01, 0.0, 0.0, 0.1], (2, 1))
    for reference, heights, turns in (("relative", [0.29, 0.29], [-0.1, -0.1]), ("delta", [0.29, 0.28], [-0.1, -0.2])):
        found = decode_chunk(rows, space(tool("ee_delta", frame="tool", reference=reference)), {"arm": down})["arm"]
        np.testing.assert_allclose(found.positions[:, 2], heights, atol=1e-12)
        about = Scipy.from_quat(found.quaternions) * Scipy.from_quat(down.pose.quaternion).inv()
        np.testing.assert_allclose(about.as_rotvec(), [[0.0, 0.0, turn] for turn in turns], atol=1e-9)


def test_joint_rows_mean_what_they_say():
    rows = np.array([[0.1, 0.0, 0.0], [0.1, 0.0, -0.2]])
    for group, expected in (
        (joints("joint_position"), rows),
        (joints("joint_position", unit="degrees"), rows * np.pi / 180.0),
        (joints("joint_position", unit="percent", **BOUNDS), [[0.002, 1.0, 0.5], [0.002, 1.0, 0.499]]),
        (joints("joint_delta", reference="relative"), START.joint_positions + rows),
        (joints("joint_delta", reference="delta"), [[0.2, -0.2, 0.3], [0.3, -0.2, 0.1]]),
        (joints("joint_velocity"), [[0.11, -0.2, 0.3], [0.12, -0.2, 0.28]]),
    ):
        found = decode_chunk(rows, space(group), {"arm": START})["arm"]
        np.testing.assert_allclose(found.joint_positions, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("convention", "column", "fraction"),
    [
        ("open_is_one", 0.25, 0.25),
        ("closed_is_one", 0.25, 0.75),
        ("open_is_plus", -0.5, 0.25),
        ("closed_is_plus", -1.0, 1.0),
        ("closed_is_plus", 1.0, 0.0),
        ("open_is_hundred", 25.0, 0.25),
    ],
)
def test_gripper_columns_mean_what_they_say(convention, column, fraction):
    both = space(joints("joint_position"), {"group": "arm/gripper", "gripper": convention})
    found = decode_chunk(np.array([[0.0, 0.0, 0.0, column]]), both, {"arm": START})["arm"]
    assert found.openings == pytest.approx([fraction * 0.08])


def test_arms_are_decoded_apart():
    groups = [
        {"group": "left/joint_position", "joints": 2},
        {"group": "right/gripper", "gripper": "opening"},
        {"group": "right/joint_delta", "joints": 1, "reference": "relative"},
    ]
    starts = {"left": ArmStart(np.zeros(2), START.pose, 0.08), "right": ArmStart(np.ones(1), START.pose, 0.08)}
    found = decode_chunk(np.array([[0.1, 0.2, 0.03, 0.4]]), space(*groups), starts)
    np.testing.assert_allclose(found["left"].joint_positions, [[0.1, 0.2]])
    np.testing.assert_allclose(found["right"].joint_positions, [[1.4]])
    np.testing.assert_allclose(found["right"].openings, [0.03])


@pytest.mark.parametrize(
    ("form", "turn", "refused"),
    [
        ({"rotation": "rotation_vector"}, [3.1, 0.0, 0.0], True),
        ({"rotation": "rotation_vector"}, [2.0, 0.0, 0.0], False),
        ({"rotation": "quaternion"}, [3.1, 0.0, 0.0], True),
        ({"rotation": "euler", "euler_order": "xyz"}, [-3.1, 0.0, 0.0], True),
        ({"rotation": "euler", "euler_order": "xyz"}, [0.0, 1.55, 0.0], True),
        ({"rotation": "euler", "euler_order": "ZXZ"}, [0.0, 0.0, 0.3], True),
        ({"rotation": "euler", "euler_order": "xyz"}, [1.0, 0.5, 2.0], False),
        ({"rotation": "six_d"}, [3.14, 0.0, 0.0], False),
    ],
)
def test_targets_near_a_jump_are_refused(form, turn, refused):
    """A tool that points down is half a turn from the base frame: its rotation vector is near pi, and -pi."""
    wanted = ArmTrajectory(positions=np.zeros((1, 3)), quaternions=Scipy.from_rotvec([turn]).as_quat())
    absolute = space(tool("ee_pose", **form))
    encode_chunk({"arm": wanted}, absolute, {"arm": START})
    if refused:
        with pytest.raises(ChunkError, match="as six_d"):
            encode_chunk({"arm": wanted}, absolute, {"arm": START}, as_target=True)
    else:
        encode_chunk({"arm": wanted}, absolute, {"arm": START}, as_target=True)


@pytest.mark.parametrize(
    ("actions", "words"),
    [(np.zeros((2, 4)), "expected"), (np.zeros(3), "expected"), ([[0.0, np.nan, 0.0]], "not finite")],
)
def test_chunk_of_another_form_is_refused(actions, words):
    with pytest.raises(ChunkError, match=words):
        decode_chunk(np.asarray(actions), space(joints("joint_position")), {"arm": START})


def test_trajectory_that_lacks_something_is_refused():
    with pytest.raises(ChunkError, match="needs joint positions"):
        encode_chunk({"arm": ArmTrajectory()}, space(joints("joint_position")), {"arm": START})
