"""The workcell of any contract: gripper kinds, camera poses, mesh formats, and a table within reach."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pinocchio
import pytest

from vla_ros.envs.mujoco.layout import REFERENCE_LAYOUT, plan_layout
from vla_ros.envs.registry import WORLDS, make_env
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.errors import ContractError, SimulationError
from vla_ros.robot.contract import RobotContract, load_contract, parse_contract
from vla_ros.robot.link_frames import complete_description

PANDA = load_contract("panda")
URDF = PANDA.urdf.read_text(encoding="utf-8")
ROBOTS = ("panda", "fr3", "ur5e", "so101")
SEEDS = range(4)


def written(folder: Path, text: str, urdf: str = URDF) -> RobotContract:
    """Return the contract `text`, with `urdf` beside it."""
    (folder / "arm.urdf").write_text(urdf, encoding="utf-8")
    path = folder / "arm.yaml"
    path.write_text(text.replace("urdf: urdf/panda.urdf", "urdf: arm.urdf"), encoding="utf-8")
    return load_contract(path)


def with_camera(line: str, frame: str = "another_optical") -> str:
    """Return the Panda's contract with a third camera called "overhead"."""
    camera = (
        f"  overhead:\n    topic: /overhead\n    frame: {frame}\n{line}    width: 32\n    height: 24\n"
        "    rate_hz: 10.0\n    policy_height: 24\n    policy_width: 32\ncontrollers:"
    )
    assert PANDA.text.count("\ncontrollers:") == 1
    return PANDA.text.replace("\ncontrollers:", f"\n{camera}")


def camera_in_base(cell: TabletopEnv, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return position and rotation of a camera's optical frame in the simulation as it was built."""
    cell.model.cam_pos[:], cell.model.cam_quat[:] = cell._camera_pos, cell._camera_quat
    cell.step(0.002)
    view = cell.data.camera(name)
    return view.xpos.copy(), view.xmat.reshape(3, 3) @ np.diag([1.0, -1.0, -1.0])


def frame_in_base(cell: TabletopEnv, frame: str) -> pinocchio.SE3:
    """Return where the published transform tree has a frame, at the joints of the simulation."""
    model = pinocchio.buildModelFromXML(complete_description(cell.contract))
    data, q = model.createData(), pinocchio.neutral(model)
    for index, name in list(enumerate(model.names))[1:]:
        q[model.joints[index].idx_q] = cell.data.joint(name).qpos[0]
    pinocchio.framesForwardKinematics(model, data, q)
    return data.oMf[model.getFrameId(frame)]


@pytest.mark.parametrize("world", sorted(WORLDS))
@pytest.mark.parametrize("robot", ROBOTS)
def test_every_shipped_robot_reaches_its_objects(robot: str, world: str) -> None:
    cell = make_env(world, load_contract(robot))
    box = cell.contract.cartesian
    for seed in SEEDS:
        cell.reset(seed)
        for item in cell.objects:
            x, y, z = cell.thing_position(item.pair)
            assert box.workspace_lower[0] <= x <= box.workspace_upper[0], (robot, item)
            assert box.workspace_lower[1] <= y <= box.workspace_upper[1], (robot, item)
            assert 0.0 < z < 0.05, (robot, item)
        assert not cell.task_status().success


@pytest.mark.parametrize("robot", ROBOTS)
def test_cameras_stand_where_the_transform_tree_has_them(robot: str) -> None:
    cell = make_env("pick", load_contract(robot))
    cell.reset(1)
    for camera in cell.contract.cameras:
        position, rotation = camera_in_base(cell, camera.name)
        frame = frame_in_base(cell, camera.frame)
        np.testing.assert_allclose(position, frame.translation, atol=1e-5)
        np.testing.assert_allclose(rotation, frame.rotation, atol=1e-5)


@pytest.mark.parametrize(
    ("parent", "fov"), [("panda_link0", 35.0), ("panda_link5", 65.0), ("panda_tcp", 65.0), ("panda_link0", 50.0)]
)
def test_a_camera_of_any_name_is_where_its_pose_says(tmp_path: Path, parent: str, fov: float) -> None:
    pose = f"    pose: {{parent: {parent}, xyz: [0.1, -0.2, 0.3], rpy: [0.4, -0.5, 2.0]}}\n"
    if fov == 50.0:
        pose += "    field_of_view: 50.0\n"
    cell = make_env("pick", written(tmp_path, with_camera(pose)))
    cell.reset(1)
    position, rotation = camera_in_base(cell, "overhead")
    frame = frame_in_base(cell, "another_optical")
    np.testing.assert_allclose(position, frame.translation, atol=1e-6)
    np.testing.assert_allclose(rotation, frame.rotation, atol=1e-6)
    assert float(cell.model.camera("overhead").fovy[0]) == fov


def test_a_camera_on_a_mast_stands(tmp_path: Path) -> None:
    mast = (
        '<link name="mast"><visual><geometry><box size="0.1 0.1 1"/></geometry></visual></link>'
        '<joint name="mast_joint" type="fixed"><parent link="panda_link0"/><child link="mast"/>'
        '<origin xyz="-0.5 0 0.5"/></joint></robot>'
    )
    pose = "    pose: {parent: mast, xyz: [0.0, 0.0, 0.5], rpy: [-2.0, 0.0, -1.57]}\n"
    cell = make_env("pick", written(tmp_path, with_camera(pose), URDF.replace("</robot>", mast)))
    assert float(cell.model.camera("overhead").fovy[0]) == 35.0
    position, _ = camera_in_base(cell, "overhead")
    np.testing.assert_allclose(position, [-0.5, 0.0, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        (
            "",
            SimulationError,
            r"cameras\.overhead: .*does not know where.*'pose: \{parent.*or a link 'another_optical'",
        ),
        ("    pose: {parent: roof, xyz: [0, 0, 1], rpy: [0, 0, 0]}\n", SimulationError, "no link 'roof'"),
        ("    field_of_view: 180.0\n", ContractError, r"field_of_view: got 180\.0, expected deg below 170"),
    ],
)
def test_a_camera_without_a_place_is_one_sentence(tmp_path: Path, line: str, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make_env("pick", written(tmp_path, with_camera(line)))


def test_names_of_links_and_cameras_do_not_matter(tmp_path: Path) -> None:
    urdf = URDF.replace("panda_hand", "palm").replace("panda_leftfinger", "pad_a").replace("panda_rightfinger", "pad_b")
    text = PANDA.text.replace("\n  front:\n", "\n  table:\n").replace("\n  wrist:\n", "\n  mounted:\n")
    ours, theirs = make_env("pick", written(tmp_path, text, urdf)), make_env("pick", PANDA)
    assert {camera.name for camera in ours.contract.cameras} == {"table", "mounted"}
    np.testing.assert_allclose(ours._camera_pos, theirs._camera_pos, atol=1e-12)
    np.testing.assert_allclose(ours._camera_quat, theirs._camera_quat, atol=1e-12)
    np.testing.assert_array_equal(ours.model.geom_friction, theirs.model.geom_friction)
    assert ours._finger_of_geom == theirs._finger_of_geom != {}


def closed_on_a_cube(cell: TabletopEnv) -> str:
    """Let the gripper close on a weightless cube at its tool, and return what it grasps."""
    cell.reset(0)
    slot = next(i for i, item in enumerate(cell.objects) if item.shape == "cube")
    body = cell.model.body(f"object_{slot}")
    cell.model.body_gravcomp[body.id] = 1.0
    address = cell.model.joint(f"object_{slot}").qposadr[0]
    for _ in range(5):
        cell.step(0.1)  # the arm comes to rest
    tool = cell.state().end_effector
    x, y, z, w = tool.quaternion
    cell.data.qpos[address : address + 7] = [*tool.position, w, x, y, z]
    cell.data.joint(f"object_{slot}").qvel[:] = 0.0
    for _ in range(20):
        cell.command(cell.data.ctrl[cell._arm_servo], 0.0)
        cell.step(0.1)
    return cell.grasped()


@pytest.mark.parametrize("robot", ["panda", "ur5e", "so101"])
def test_two_fingers_and_one_jaw_grasp(robot: str) -> None:
    """A jaw closes against what carries it."""
    cell = make_env("pick", load_contract(robot))
    assert set(cell._finger_of_geom.values()) == {0, 1}
    assert cell.grasped() == ""
    assert closed_on_a_cube(cell).endswith("cube")


@pytest.mark.parametrize("name", ["mirrored", "mimic", "continuous", "bare"])
def test_unusual_grippers_grasp_or_never_do(arm_variants: dict[str, RobotContract], name: str) -> None:
    cell = make_env("pick", arm_variants[name])
    assert bool(closed_on_a_cube(cell)) == (name != "bare")
    assert bool(cell._finger_of_geom) == (name != "bare")


def test_phalanges_of_one_finger_are_one_finger(tmp_path: Path) -> None:
    """A second joint on the left finger, which follows the first: both its parts are the same side."""
    tip = (
        '<link name="tip"><collision><geometry><box size="0.01 0.01 0.01"/></geometry></collision></link>'
        '<joint name="tip_joint" type="revolute"><parent link="panda_leftfinger"/><child link="tip"/>'
        '<origin xyz="0 0 0.06"/><axis xyz="1 0 0"/><limit lower="-1" upper="1" velocity="1" effort="1"/>'
        '<mimic joint="panda_finger_joint1"/></joint></robot>'
    )
    cell = make_env("pick", written(tmp_path, PANDA.text, URDF.replace("</robot>", tip)))
    fingers = {
        cell.model.body(int(cell.model.geom_bodyid[geom])).name: finger for geom, finger in cell._finger_of_geom.items()
    }
    assert fingers["tip"] == fingers["panda_leftfinger"] != fingers["panda_rightfinger"]


CUBE = [
    [(0, 0, 0), (0, 1, 0), (1, 1, 0)],
    [(0, 0, 0), (1, 1, 0), (1, 0, 0)],
    [(0, 0, 1), (1, 0, 1), (1, 1, 1)],
    [(0, 0, 1), (1, 1, 1), (0, 1, 1)],
    [(0, 0, 0), (1, 0, 0), (1, 0, 1)],
    [(0, 0, 0), (1, 0, 1), (0, 0, 1)],
    [(0, 1, 0), (0, 1, 1), (1, 1, 1)],
    [(0, 1, 0), (1, 1, 1), (1, 1, 0)],
    [(0, 0, 0), (0, 0, 1), (0, 1, 1)],
    [(0, 0, 0), (0, 1, 1), (0, 1, 0)],
    [(1, 0, 0), (1, 1, 0), (1, 1, 1)],
    [(1, 0, 0), (1, 1, 1), (1, 0, 1)],
]
"""Triangles of a cube of side 1 at the origin."""


def binary_stl(corners: np.ndarray) -> bytes:
    facets = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
    facets["corners"] = corners
    return b"solid: binary all the same".ljust(80) + struct.pack("<I", len(facets)) + facets.tobytes()


def text_stl(corners: np.ndarray) -> bytes:
    facets = "".join(
        "facet normal 0 0 0\nouter loop\n" + "".join("vertex {} {} {}\n".format(*p) for p in t) + "endloop\nendfacet\n"
        for t in corners
    )
    return f"solid a\n{facets}endsolid a\n".encode()


def obj(corners: np.ndarray) -> bytes:
    points = corners.reshape(-1, 3)
    faces = "".join(f"f {3 * i + 1} {3 * i + 2} {3 * i + 3}\n" for i in range(len(corners)))
    return ("".join("v {} {} {}\n".format(*p) for p in points) + faces).encode()


def collada(corners: np.ndarray) -> bytes:
    points = " ".join(str(value) for value in corners.reshape(-1))
    count = 3 * len(corners)
    return f"""<?xml version="1.0"?>
<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1"><asset><unit meter="1"/>
<up_axis>Z_UP</up_axis></asset><library_geometries><geometry id="g"><mesh><source id="p"><float_array id="a"
count="{3 * count}">{points}</float_array><technique_common><accessor source="#a" count="{count}" stride="3">
<param name="X" type="float"/><param name="Y" type="float"/><param name="Z" type="float"/></accessor>
</technique_common></source><vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
<triangles count="{len(corners)}"><input semantic="VERTEX" source="#v" offset="0"/><p>
{" ".join(str(i) for i in range(count))}</p></triangles></mesh></geometry></library_geometries>
<library_visual_scenes><visual_scene id="s"><node id="n"><instance_geometry url="#g"/></node></visual_scene>
</library_visual_scenes><scene><instance_visual_scene url="#s"/></scene></COLLADA>""".encode()


def ply(corners: np.ndarray) -> bytes:
    points = corners.reshape(-1, 3)
    head = (
        f"ply\nformat ascii 1.0\nelement vertex {len(points)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(corners)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = "".join(f"3 {3 * i} {3 * i + 1} {3 * i + 2}\n" for i in range(len(corners)))
    return (head + "".join("{} {} {}\n".format(*p) for p in points) + faces).encode()


FORMATS = {"binary.stl": binary_stl, "text.stl": text_stl, "a.obj": obj, "a.dae": collada, "a.ply": ply}


def meshed(folder: Path, file: str, content: bytes, scale: str, other: bytes | None = None) -> RobotContract:
    """Return the Panda with a mesh on its fifth link, and on its third one of that file name in another folder."""
    urdf = URDF
    for link, place in (("panda_link5", "meshes"), ("panda_link3", "other")):
        (folder / place).mkdir()
        (folder / place / file).write_bytes(content if place == "meshes" or other is None else other)
        geometry = f'<geometry><mesh filename="{place}/{file}" scale="{scale}"/></geometry>'
        visual = '<visual><geometry><mesh filename="package://nobody/pretty.dae"/></geometry></visual>'
        assert f'<link name="{link}">' in urdf
        collision = f'<collision><origin xyz="0 0 0.05"/>{geometry}</collision>'
        urdf = urdf.replace(f'<link name="{link}">', f'<link name="{link}">{visual}{collision}')
    return written(folder, PANDA.text, urdf)


@pytest.mark.parametrize("scale", ["0.1 0.1 0.1", "0.1 0.2 -0.1"])
@pytest.mark.parametrize("file", sorted(FORMATS))
def test_meshes_of_every_format_collide_at_their_size(tmp_path: Path, file: str, scale: str) -> None:
    content = FORMATS[file](np.array(CUBE, dtype=np.float64))
    model = make_env("pick", meshed(tmp_path, file, content, scale)).model
    meshes = [geom for geom in range(model.ngeom) if model.geom_dataid[geom] >= 0]
    assert len(meshes) == 2
    expected = np.sort(np.abs([float(word) for word in scale.split()])) / 2.0
    for geom in meshes:
        np.testing.assert_allclose(np.sort(model.geom_aabb[geom][3:]), expected, atol=1e-6)


def test_files_of_one_name_are_two_meshes(tmp_path: Path) -> None:
    cube = np.array(CUBE, dtype=np.float64)
    model = make_env(
        "pick", meshed(tmp_path, "a.stl", binary_stl(cube), "0.1 0.1 0.1", other=binary_stl(0.5 * cube))
    ).model
    sizes = [model.geom_aabb[geom][3] for geom in range(model.ngeom) if model.geom_dataid[geom] >= 0]
    np.testing.assert_allclose(sorted(sizes), [0.025, 0.05], atol=1e-6)


def test_a_flat_mesh_and_one_of_too_many_faces_are_taken(tmp_path: Path) -> None:
    flat = np.array([[(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.0, 0.1, 0.0)]])
    for name, corners in (("flat", flat), ("fine", np.tile(0.1 * np.array(CUBE, dtype=float), (17_000, 1, 1)))):
        (tmp_path / name).mkdir()
        model = make_env("pick", meshed(tmp_path / name, "a.stl", binary_stl(corners), "1 1 1")).model
        assert (model.geom_dataid >= 0).sum() == 2


@pytest.mark.parametrize(("file", "content"), [("a.stl", b"nothing"), ("a.dae", b"<COLLADA/>"), ("a.xyz", b"1 2 3")])
def test_a_mesh_that_cannot_be_read_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    with pytest.raises((SimulationError, ContractError), match=file):
        make_env("pick", meshed(tmp_path, file, content, "1 1 1"))


@pytest.mark.parametrize(
    ("lower", "upper", "top"),
    [
        ([0.30, -0.30, 0.02], [0.60, 0.30, 0.50], 0.0),
        ([0.30, -0.25, 0.20], [0.55, 0.25, 0.60], 0.195),
        ([0.30, -0.25, -0.10], [0.60, 0.25, 0.50], -0.105),
    ],
)
def test_the_table_is_under_the_workspace(lower: list[float], upper: list[float], top: float) -> None:
    box = replace(PANDA.cartesian, workspace_lower=np.array(lower), workspace_upper=np.array(upper))
    cell = make_env("pick", replace(PANDA, cartesian=box))
    assert cell.layout.top == pytest.approx(top)
    for seed in SEEDS:
        cell.reset(seed)
        for item in cell.objects:
            x, y, z = cell.thing_position(item.pair)
            assert lower[0] <= x <= upper[0] and lower[1] <= y <= upper[1] and top < z < top + 0.05


def test_a_table_out_of_reach_is_one_sentence() -> None:
    box = replace(
        PANDA.cartesian, workspace_lower=np.array([1.5, -0.2, 0.005]), workspace_upper=np.array([2.0, 0.2, 0.5])
    )
    with pytest.raises(SimulationError, match=r"robot 'panda' does not reach a table.*cm short.*cartesian\.workspace"):
        make_env("pick", replace(PANDA, cartesian=box))


def test_the_reference_workspace_keeps_its_table() -> None:
    cell = make_env("pick", PANDA)
    assert plan_layout(PANDA, cell.kinematics) == REFERENCE_LAYOUT
    assert REFERENCE_LAYOUT.area(((0.4, 0.62), (-0.2, 0.2))) == ((0.4, 0.62), (-0.2, 0.2))


def test_a_link_without_mass_may_move(tmp_path: Path) -> None:
    block = URDF[URDF.index('<link name="panda_link6">') :]
    block = block[: block.index("</link>") + len("</link>")]
    contract = written(tmp_path, PANDA.text, URDF.replace(block, '<link name="panda_link6"/>'))
    contract = parse_contract(contract.text.split("\ncontact:")[0], folder=tmp_path)
    cell = make_env("pick", contract)
    cell.command(contract.joints.home, 0.04)
    cell.step(0.5)
    np.testing.assert_allclose(cell.state().joint_positions, contract.joints.home, atol=0.02)
