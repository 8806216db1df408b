"""`vla-ros robot simplify`: what it writes holds the mesh, is fast, arms, and loses no pair in silence."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from vla_ros.cli.main import main
from vla_ros.envs.mujoco.model import build_model
from vla_ros.errors import ContractError, SimulationError
from vla_ros.robot.contract import load_contract
from vla_ros.robot.description import simplify as module
from vla_ros.robot.description.mesh_paths import mesh_path
from vla_ros.robot.description.simplify import require_inside, simplify
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.selftest.table import fault_table, run_faults

PANDA = load_contract("panda")
PARAMETERS = load_parameters()


def rounded_elbow(size, bend):
    """Triangles of a bent tube, some hundred of them: along z, then bent towards x by `bend` rad."""
    rings, sides = 16, 12
    along, around = np.meshgrid(np.linspace(0, 1, rings), np.linspace(0, 2 * np.pi, sides), indexing="ij")
    angle = bend * np.clip(2 * along - 1, 0, 1)
    thick = 0.25 * size
    x = np.sin(angle) * (along - 0.5) * size + thick * np.cos(around) * np.cos(angle)
    z = along * size * np.cos(0.5 * angle) - thick * np.cos(around) * np.sin(angle)
    points = np.stack([x, thick * np.sin(around), z], axis=-1)
    a, b, c, d = points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]
    side = np.concatenate([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)]).reshape(-1, 3, 3)
    ends = [
        np.stack([np.broadcast_to(ring.mean(axis=0), ring[1:].shape), ring[1:], ring[:-1]], axis=1)
        for ring in (points[0], points[-1])
    ]
    return np.concatenate([side, *ends])


def write_mesh(path, corners):
    facets = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
    facets["corners"] = corners
    path.write_bytes(b"".ljust(80) + struct.pack("<I", len(facets)) + facets.tobytes())


@pytest.fixture
def meshed_arm(tmp_path):
    """The Panda in a package of its own, with meshes on three links that stand where its shapes stand."""
    package = tmp_path / "workspace" / "arm_description"
    (package / "meshes").mkdir(parents=True)
    (package / "urdf").mkdir()
    write_mesh(package / "meshes" / "knee.stl", rounded_elbow(0.06, 0.9))
    text = PANDA.urdf.read_text(encoding="utf-8")
    for link in ("panda_link3", "panda_link5", "panda_link7"):
        mesh = (
            '<collision><origin xyz="0 0 0" rpy="0.1 0 0"/><geometry><mesh scale="1 1 0.5" '
            'filename="package://arm_description/meshes/knee.stl"/></geometry></collision>'
        )
        assert f'<link name="{link}">' in text
        text = text.replace(f'<link name="{link}">', f'<link name="{link}">{mesh}')
    (package / "urdf" / "arm.urdf").write_text(text, encoding="utf-8")
    (package / "arm.yaml").write_text(PANDA.text.replace("urdf/panda.urdf", "urdf/arm.urdf"), encoding="utf-8")
    return package / "arm.yaml"


def test_a_package_is_found_around_the_description(meshed_arm, tmp_path):
    contract = load_contract(meshed_arm)
    found = mesh_path("package://arm_description/meshes/knee.stl", contract.urdf)
    assert found == meshed_arm.parent / "meshes" / "knee.stl"
    assert mesh_path(f"file://{found}", contract.urdf) == found
    assert mesh_path("../meshes/knee.stl", contract.urdf).samefile(found)
    with pytest.raises(ContractError, match=r"elsewhere.*no package of that name.*source the workspace"):
        mesh_path("package://elsewhere/knee.stl", contract.urdf)


def test_what_is_sourced_comes_before_what_is_near(meshed_arm, tmp_path, monkeypatch):
    folder = tmp_path / "prefix" / "share" / "arm_description" / "meshes"
    folder.mkdir(parents=True)
    (folder / "knee.stl").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    assert mesh_path("package://arm_description/meshes/knee.stl", load_contract(meshed_arm).urdf).parent == folder


def test_the_written_shapes_hold_the_meshes_and_are_counted(meshed_arm, tmp_path, capsys):
    out = tmp_path / "out" / "arm_convex.urdf"
    assert main(["robot", "simplify", str(meshed_arm), "--out", str(out), "--vertices", "16", "--json"]) == 0
    shown = capsys.readouterr().out.splitlines()
    figures = json.loads(shown[-1])
    triangles = len(rounded_elbow(0.06, 0.9))
    assert [one["triangles"] for one in figures["meshes"]] == [triangles] * 3
    assert all(one["checked"] == 7 * triangles for one in figures["meshes"])
    assert all(max(one["parts"]) <= 16 and 0.0 < one["inflation"] < 0.03 for one in figures["meshes"])
    assert sum("mm off the mesh" in line for line in shown) == 3
    assert sum("ms before" in line for line in shown) == 1
    assert 0.0 < figures["distances_s"][1] < figures["distances_s"][0], "convex shapes are what makes it quick"
    before = CollisionModel(load_contract(meshed_arm), PARAMETERS.collision, PARAMETERS.obstacles)
    after = CollisionModel(replace(load_contract(meshed_arm), urdf=out), PARAMETERS.collision, PARAMETERS.obstacles)
    assert before.triangles == 3 * triangles and after.triangles == 0
    rng = np.random.default_rng(0)
    for q in PANDA.joints.home + rng.uniform(-0.4, 0.4, (10, 7)):
        nearest = [least(model, q) for model in (before, after)]
        assert nearest[1] <= nearest[0] + 1e-6  # never further away than the mesh is


def least(model, q):
    return min(distance for pair, distance in zip(model.pairs, model.distances(q), strict=True) if "table" in pair.name)


def test_what_was_written_arms(meshed_arm, tmp_path):
    out = meshed_arm.parent / "arm_convex.urdf"
    simplify(load_contract(meshed_arm).urdf, out)
    text = meshed_arm.read_text(encoding="utf-8").replace("urdf/arm.urdf", "arm_convex.urdf")
    (meshed_arm.parent / "convex.yaml").write_text(text, encoding="utf-8")
    contract = load_contract(meshed_arm.parent / "convex.yaml")
    rows = run_faults(contract, PARAMETERS, fault_table()[::20])
    assert [row for row in rows if not row.stopped] == []


def test_a_shape_that_leaves_a_corner_out_is_never_written_off_as_good(meshed_arm, tmp_path, monkeypatch):
    corners = rounded_elbow(0.1, 0.9)
    (hull,) = module.convex_cover(corners, 1, 16)
    small = replace(hull, vertices=0.99 * hull.vertices + 0.01 * hull.vertices.mean(axis=0))
    module.write_stl(small, tmp_path / "small.stl")
    with pytest.raises(ContractError, match="leave out"):
        require_inside(corners, [tmp_path / "small.stl"], "knee")


def test_pairs_that_would_touch_at_home_are_named_and_nothing_is_written(meshed_arm, tmp_path, monkeypatch, capsys):
    """Two links whose meshes keep apart at home, and whose shapes do not: more parts are tried, then it is refused."""
    tried = []
    monkeypatch.setattr("vla_ros.cli.commands.robot.MOST_PARTS_TRIED", 3)
    real = simplify

    def fat(urdf, out, parts, vertices):
        tried.append(parts)
        done = real(urdf, out, parts, vertices)
        text = out.read_text(encoding="utf-8")
        thick = '<collision><geometry><sphere radius="0.3"/></geometry></collision>'
        out.write_text(text.replace('<link name="panda_link7">', f'<link name="panda_link7">{thick}'), encoding="utf-8")
        return done

    monkeypatch.setattr(module, "simplify", fat)
    free = tmp_path / "safety.yaml"  # without the table, which the ball would touch as well
    from vla_ros.paths import share_file

    text = share_file("config/safety.yaml").read_text(encoding="utf-8")
    free.write_text(text[: text.index("obstacles:")] + "obstacles: {}\n", encoding="utf-8")
    out = tmp_path / "arm_convex.urdf"
    command = ["robot", "simplify", str(meshed_arm), "--out", str(out), "--safety", str(free)]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "would not be watched" in error and "and panda_link7 (" in error
    assert tried == [2, 3]
    assert list(tmp_path.glob("arm_convex*")) == []
    assert main([*command, "--allow-touching"]) == 0
    shown = capsys.readouterr().out
    assert "not watched: " in shown and "panda_link7" in shown
    assert out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "{tmp}/a.txt"], "expected a file that ends in .urdf"),
        (["--out", "{tmp}/a.urdf", "--vertices", "5"], "expected at least 8"),
        (["--out", "{urdf}"], "is the description itself"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(meshed_arm, tmp_path, capsys, arguments, message):
    urdf = load_contract(meshed_arm).urdf
    words = [word.format(tmp=tmp_path, urdf=urdf) for word in arguments]
    before = urdf.read_bytes()
    assert main(["robot", "simplify", str(meshed_arm), *words]) != 0
    assert message in capsys.readouterr().err
    assert urdf.read_bytes() == before


@pytest.mark.parametrize("argument", [False, True])
def test_a_description_is_taken_without_a_contract(meshed_arm, tmp_path, capsys, argument):
    urdf = load_contract(meshed_arm).urdf
    word = str(urdf)
    if argument:
        text = urdf.read_text(encoding="utf-8").replace("knee.stl", "$(arg part).stl", 1)
        text = text.replace("<robot ", '<robot xmlns:xacro="http://www.ros.org/wiki/xacro" ', 1)
        source = urdf.with_name("arm.urdf.xacro")
        source.write_text(text, encoding="utf-8")
        word = f"{source} part:=knee"
    out = tmp_path / "arm_convex.urdf"
    assert main(["robot", "simplify", word, "--out", str(out)]) == 0
    assert "what touches at home was not looked at" in capsys.readouterr().out
    assert "xacro" not in out.read_text(encoding="utf-8").replace("xmlns:xacro", "")


def test_a_description_of_primitive_shapes_is_left_as_it_is(tmp_path, capsys):
    assert main(["robot", "simplify", "panda", "--out", str(tmp_path / "a.urdf")]) == 1
    assert "has no collision mesh" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_simulated_cell_takes_meshes_of_a_package(meshed_arm, tmp_path):
    """MuJoCo knows no packages, and looks for a mesh in one folder alone."""
    contract = load_contract(meshed_arm)
    done = simplify(contract.urdf, tmp_path / "arm_convex.urdf")
    for one, meshes in ((contract, 3), (replace(contract, urdf=done.urdf), len(done.files) - 1)):
        model = build_model(one)
        used = [geom for geom in range(model.ngeom) if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH]
        assert len(used) == meshes


def test_the_wrist_camera_of_an_arm_without_a_hand_is_at_its_tool(tmp_path):
    """As long as neither contract nor description says where it is."""
    text = PANDA.urdf.read_text(encoding="utf-8").replace("panda_hand", "panda_mount")
    text = text.replace(PANDA.camera("wrist").frame, "a_link_of_another_name")
    (tmp_path / "arm.urdf").write_text(text, encoding="utf-8")
    model = build_model(replace(PANDA, urdf=tmp_path / "arm.urdf"))
    assert model.body(model.camera("wrist").bodyid[0]).name == PANDA.end_effector_frame
    with pytest.raises(SimulationError, match=r"cameras\.wrist: .*does not know where the camera is"):
        build_model(replace(PANDA, urdf=tmp_path / "arm.urdf", end_effector_frame="nowhere"))
