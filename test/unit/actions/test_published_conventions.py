"""Action conventions that are published, as action spaces: each against numbers of its own controller.

The vectors were computed from the formulas below, which were compared with the peers' functions on random inputs.

===========  ===============================================================================================
convention   where it is defined
===========  ===============================================================================================
LIBERO       robosuite 1.4.0 `controllers/osc.py::set_goal`, `controllers/config/osc_pose.json`
Bridge       bridge_data_robot `widowx_envs/base/robot_base_env.py::_next_qpos`, `utils/transformation_utils.py`
DROID        droid `franka/robot.py::create_action_dict`, `robot_ik/robot_ik_solver.py`
ALOHA        aloha `aloha_scripts/constants.py`; openpi `policies/aloha_policy.py`
SO-101       lerobot `motors/motors_bus.py::_normalize`, `model/kinematics.py`
openpi       `transforms.py::Unnormalize, AbsoluteActions`
GR00T        lerobot `policies/groot/utils.py`
===========  ===============================================================================================

LIBERO's and DROID's columns are deltas FROM THE MEASURED VALUE AT EXECUTION: every row starts anew from where the arm
is then. `relative` says that for the first row, which is the only one that can be known from the observation; `delta`
chains rows, which says where later ones lead if each goal is reached. Bridge's rows are deltas from the row before, and
it turns about the measured place of the tool, where an action space turns about the target.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.actions.gripper_convention import openings_from_column
from vla_ros.actions.rotation_columns import columns_from_matrix, matrix_from_columns
from vla_ros.actions.rotation_vectors import quaternion_from_matrix
from vla_ros.actions.rotations import Rotation, matrix_from_quaternion
from vla_ros.actions.space import ActionSpace
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, decode_chunk, encode_chunk
from vla_ros.processing.normalizer import Method, Normalizer
from vla_ros.types import FloatArray, Pose

GOLDEN = json.loads((Path(__file__).parent / "published_conventions.json").read_text(encoding="utf-8"))
AT_ORIGIN = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))


def golden(name: str) -> dict[str, Any]:
    return {key: np.array(value) if isinstance(value, list) else value for key, value in GOLDEN[name].items()}


def space(*groups: dict[str, Any], rate: float) -> ActionSpace:
    return ActionSpace.from_dict({"groups": list(groups), "rate_hz": rate, "horizon": 1})


def at(pose: Pose = AT_ORIGIN, joints: FloatArray | None = None, max_opening: float = 1.0) -> ArmStart:
    return ArmStart(np.zeros(0) if joints is None else joints, pose, max_opening)


def assert_goal(found: ArmTrajectory, position: FloatArray, quaternion: FloatArray) -> None:
    assert found.positions is not None and found.quaternions is not None
    np.testing.assert_allclose(found.positions[0], position, atol=1e-8)
    turned = found.quaternions[0] * np.sign(found.quaternions[0] @ quaternion)  # q and -q are one attitude
    np.testing.assert_allclose(turned, quaternion, atol=2e-8)


OSC_LOW, OSC_HIGH = [-0.05] * 3 + [-0.5] * 3, [0.05] * 3 + [0.5] * 3
LIBERO = space(
    {
        "group": "arm/ee_delta",
        "reference": "relative",
        "frame": "world",
        "rotation": "rotation_vector",
        "unit": "normalized",
        "low": OSC_LOW,
        "high": OSC_HIGH,
    },
    {"group": "arm/gripper", "gripper": "closed_is_plus"},
    rate=20.0,
)


@pytest.mark.parametrize("name", ["libero.1", "libero.2"])
def test_libero_osc_pose(name: str) -> None:
    """The controller clips each of the six columns to -1..1 first."""
    said = golden(name)
    columns = np.concatenate([np.clip(said["action"][:6], -1.0, 1.0), said["action"][6:]])
    start = at(Pose(said["start_p"], said["start_q"]), max_opening=0.08)
    found = decode_chunk(columns[None], LIBERO, {"arm": start})["arm"]
    assert_goal(found, said["goal_p"], said["goal_q"])
    assert found.openings == pytest.approx([0.0 if said["action"][6] > 0 else 0.08])
    np.testing.assert_allclose(encode_chunk({"arm": found}, LIBERO, {"arm": start})[0], columns, atol=1e-8)


def test_libero_gripper_goes_where_its_sign_says() -> None:
    """The column is a direction: a step moves the target an eighth of the way between both ends."""
    said = golden("libero.4")
    ends = openings_from_column(np.sign(said["command"]), LIBERO.groups[1].gripper, 0.08)
    moved = np.diff(said["target_opening"], prepend=0.04)
    assert (np.sign(moved)[moved != 0] == np.sign(ends - 0.04)[moved != 0]).all()
    assert np.abs(moved).max() == pytest.approx(0.01)


def test_libero_absolute() -> None:
    said = golden("libero.6")
    absolute = space(
        {"group": "arm/ee_pose", "frame": "world", "rotation": "rotation_vector"},
        {"group": "arm/gripper", "gripper": "closed_is_plus"},
        rate=20.0,
    )
    assert_goal(decode_chunk(said["action"][None], absolute, {"arm": at()})["arm"], said["goal_p"], said["goal_q"])


BRIDGE = space(
    {"group": "arm/ee_delta", "reference": "delta", "frame": "base", "rotation": "euler", "euler_order": "xyz"},
    {"group": "arm/gripper", "gripper": "open_is_one"},
    rate=5.0,
)


def test_bridge_delta_from_the_target() -> None:
    said = golden("bridge.1")
    start = at(Pose(said["previous_target_p"], said["previous_target_q"]))
    found = decode_chunk(said["action"][None], BRIDGE, {"arm": start})["arm"]
    assert_goal(found, said["target_p"], said["target_q"])
    for wrong in ("wrong_intrinsic_q", "wrong_tool_frame_q", "wrong_rotvec_q"):
        assert abs(found.quaternions[0] @ said[wrong]) < 1.0 - 1e-6, wrong


def test_bridge_turns_about_the_measured_place() -> None:
    """Where the arm lags behind its target the robot's target lies a millimeter beside that of the action space."""
    said = golden("bridge.2")
    state = said["previous_target_state"]
    limits = np.array([0.05] * 3 + [0.25] * 3)
    columns = np.concatenate([np.clip(said["action"][:6], -limits, limits), said["action"][6:]])
    found = decode_chunk(columns[None], BRIDGE, {"arm": at(Pose(state[:3], said["previous_target_q"]))})["arm"]
    assert_goal(found, said["simple_p_from_target"], said["target_q"])
    assert 5e-4 < np.linalg.norm(found.positions[0] - said["target_p"]) < 2e-3


DROID = space(
    {
        "group": "arm/joint_delta",
        "reference": "relative",
        "joints": 7,
        "unit": "normalized",
        "low": [-0.2] * 7,
        "high": [0.2] * 7,
    },
    {"group": "arm/gripper", "gripper": "closed_is_one"},
    rate=15.0,
)


def test_droid_joint_velocity_is_a_delta() -> None:
    """ "Joint velocity" of -1..1 is 0.2 rad a step from the joints that are measured then."""
    said = golden("droid.1")
    found = decode_chunk(said["action"][None], DROID, {"arm": at(joints=said["joints"], max_opening=0.085)})["arm"]
    np.testing.assert_allclose(found.joint_positions[0], said["target"], atol=1e-8)
    assert found.openings[0] == pytest.approx(said["width_without_binarising"])


def test_droid_steps_start_where_the_arm_is() -> None:
    said = golden("droid.4")
    row = np.array([[said["column"], 0, 0, 0, 0, 0, 0, 0.0]])
    for measured, target in zip(said["measured"], said["target"], strict=True):
        joints = np.array([measured, 0, 0, 0, 0, 0, 0.0])
        assert decode_chunk(row, DROID, {"arm": at(joints=joints)})["arm"].joint_positions[0, 0] == pytest.approx(
            target
        )
    values = DROID.to_dict()
    values["groups"][0]["reference"] = "delta"
    rows = np.repeat(row, 3, axis=0)
    chained = decode_chunk(rows, ActionSpace.from_dict(values | {"horizon": 3}), {"arm": at(joints=np.zeros(7))})["arm"]
    np.testing.assert_allclose(chained.joint_positions[:, 0], said["chained"], atol=1e-9)


def test_droid_cartesian_velocity() -> None:
    """The norms of both halves are limited to 1 first."""
    said = golden("droid.5")
    halves = [half / max(1.0, float(np.linalg.norm(half))) for half in np.split(said["velocity"], 2)]
    bounds = np.array([0.075] * 3 + [0.15] * 3)
    cartesian = space(
        {
            "group": "arm/ee_delta",
            "reference": "relative",
            "frame": "base",
            "rotation": "euler",
            "euler_order": "xyz",
            "unit": "normalized",
            "low": list(-bounds),
            "high": list(bounds),
        },
        rate=15.0,
    )
    quaternion = quaternion_from_matrix(matrix_from_columns(said["start_rpy"], Rotation.EULER, "xyz"))
    start = {"arm": at(Pose(said["start_p"], quaternion))}
    assert_goal(decode_chunk(np.concatenate(halves)[None], cartesian, start)["arm"], said["target_p"], said["target_q"])


def relative_joints(joints: int, *arms: str) -> ActionSpace:
    groups: list[dict[str, Any]] = []
    for arm in arms:
        groups.append({"group": f"{arm}/joint_delta", "reference": "relative", "joints": joints})
        groups.append({"group": f"{arm}/gripper", "gripper": "open_is_one"})
    return space(*groups, rate=50.0)


def test_openpi_droid_joint_positions() -> None:
    """The model says deltas from the state of the observation; the server sends absolute joints."""
    said = golden("droid.6")
    start = {"arm": at(joints=said["state"][:7])}
    found = decode_chunk(said["model"][None], relative_joints(7, "arm"), start)["arm"]
    np.testing.assert_allclose(found.joint_positions[0], said["actions"][:7], atol=1e-8)


def test_openpi_aloha() -> None:
    """In the model's space shoulder and elbow change sign and the gripper has its own scale: work of an adapter."""
    state, said = golden("aloha.4")["pi_state"], golden("aloha.5")
    starts = {"left": at(joints=state[:6]), "right": at(joints=state[7:13])}
    found = decode_chunk(said["model"][None], relative_joints(6, "left", "right"), starts)
    both = np.concatenate([found["left"].joint_positions[0], found["right"].joint_positions[0]])
    joints = [*range(6), *range(7, 13)]
    np.testing.assert_allclose(both, said["pi_absolute"][joints], atol=1e-8)
    np.testing.assert_allclose(np.tile([1, -1, -1, 1, 1, 1], 2) * both, said["action"][joints], atol=1e-8)


def test_aloha_fourteen_columns() -> None:
    aloha = space(
        {"group": "left/joint_position", "joints": 6},
        {"group": "left/gripper", "gripper": "open_is_one"},
        {"group": "right/joint_position", "joints": 6},
        {"group": "right/gripper", "gripper": "open_is_one"},
        rate=50.0,
    )
    action = golden("aloha.5")["action"]
    starts = {arm: at(joints=np.zeros(6), max_opening=0.116) for arm in aloha.arms}
    found = decode_chunk(action[None], aloha, starts)
    np.testing.assert_allclose(found["right"].joint_positions[0], action[7:13])
    assert found["left"].openings[0] == pytest.approx(0.116 * action[6])
    np.testing.assert_allclose(encode_chunk(found, aloha, starts)[0], action, atol=1e-12)


def so101(**unit: Any) -> ActionSpace:
    return space(
        {"group": "arm/joint_position", "joints": 5, **unit},
        {"group": "arm/gripper", "gripper": "open_is_hundred"},
        rate=30.0,
    )


def test_so101_degrees() -> None:
    said = golden("so101.1")
    found = decode_chunk(said["value"][None], so101(unit="degrees"), {"arm": at(max_opening=0.1)})["arm"]
    np.testing.assert_allclose(found.joint_positions[0], said["joints_new_calib"], atol=1e-8)
    assert found.openings[0] == pytest.approx(0.025)


def test_so101_percent_of_the_calibrated_range() -> None:
    """-100..100 means something only with the calibration of the arm that recorded: the bounds of the group."""
    said, ticks = golden("so101.2"), golden("so101.1")
    half = ((ticks["range_max"] - ticks["range_min"]) / 2.0 * 2.0 * np.pi / 4095.0)[:5]
    percent = so101(unit="percent", low=list(-half), high=list(half))
    found = decode_chunk(said["value"][None], percent, {"arm": at(max_opening=0.1)})["arm"]
    np.testing.assert_allclose(found.joint_positions[0], said["joints_new_calib"], atol=1e-8)
    assert found.openings[0] == pytest.approx(0.1)


def test_groot_relative_pose_in_the_tools_frame() -> None:
    """Its six numbers are the first two ROWS of the matrix; `six_d` has the first two columns."""
    said = golden("groot.1")

    def matrix(rows: FloatArray) -> FloatArray:
        first, second = rows[:3], rows[3:]
        return np.stack([first, second, np.cross(first, second)])

    relative = space(
        {"group": "arm/ee_delta", "reference": "relative", "frame": "tool", "rotation": "six_d"}, rate=10.0
    )
    start = Pose(said["reference"][:3], quaternion_from_matrix(matrix(said["reference"][3:])))
    turned = columns_from_matrix(matrix(said["relative"][3:]), Rotation.SIX_D)
    columns = np.concatenate([said["relative"][:3], turned])
    found = decode_chunk(columns[None], relative, {"arm": at(start)})["arm"]
    assert_goal(found, said["target_p"], said["target_q"])
    np.testing.assert_allclose(
        matrix_from_quaternion(found.quaternions[0])[:2].ravel(), said["target_xyz_rot6d"][3:], atol=2e-8
    )


def test_rotation_forms_of_open_x_embodiment() -> None:
    said, angles = golden("oxe.1"), np.array([0.3, -0.2, 0.5])
    for order, name in (("xyz", "extrinsic_xyz_q"), ("XYZ", "intrinsic_xyz_q"), ("zyx", "extrinsic_zyx_q")):
        given = angles[::-1] if order == "zyx" else angles  # SciPy takes the angles in the order of the axes
        found = quaternion_from_matrix(matrix_from_columns(given, Rotation.EULER, order))
        np.testing.assert_allclose(found, said[name], atol=1e-8, err_msg=name)
    found = quaternion_from_matrix(matrix_from_columns(angles, Rotation.ROTATION_VECTOR))
    np.testing.assert_allclose(found, said["rotvec_q"], atol=1e-8)
    np.testing.assert_allclose(matrix_from_columns(angles, Rotation.EULER, "xyz"), said["matrix"], atol=1e-8)
    both = golden("oxe.2")
    wxyz = matrix_from_columns(both["wxyz"], Rotation.QUATERNION_WXYZ)
    np.testing.assert_allclose(wxyz, matrix_from_columns(both["xyzw"], Rotation.QUATERNION), atol=1e-8)


def test_openpi_statistics() -> None:
    """openpi adds 1e-6 to its scales, which is the tolerance here; the gripper is normalized, too."""
    said = golden("openpi.1")
    quantiles = Normalizer(Method.QUANTILE, said["q01"], said["q99"])
    np.testing.assert_allclose(quantiles.unnormalize(said["model"]), said["to_env"], atol=1.1e-6)
    said = golden("openpi.2")
    by_mean = Normalizer.by_mean(said["mean"], said["std"])
    np.testing.assert_allclose(by_mean.unnormalize(said["model"]), said["to_env"], atol=2.1e-6)


def test_groot_range() -> None:
    """It clips to -1..1 first."""
    said = golden("groot.4")
    by_range = Normalizer(Method.MIN_MAX, np.array([said["min"]]), np.array([said["max"]]))
    np.testing.assert_allclose(by_range.unnormalize(np.clip(said["x"], -1, 1)[:, None])[:, 0], said["value"], atol=1e-9)
