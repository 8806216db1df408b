"""A xacro file in a contract: expanded with its arguments, meshes and packages found, one sentence where it fails."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from vla_ros.bringup.launch_files import robot_description
from vla_ros.errors import ContractError
from vla_ros.robot.contract import load_contract
from vla_ros.robot.description.mesh_paths import mesh_path
from vla_ros.robot.description.xacro_files import expanded_urdf, split_arguments
from vla_ros.robot.kinematics import Kinematics

PANDA = load_contract("panda")
HEAD = '<robot name="arm" xmlns:xacro="http://www.ros.org/wiki/xacro">'


@pytest.fixture(autouse=True)
def own_runtime_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.fixture
def arm(tmp_path):
    """A contract with a xacro file in a package beside it, whose argument `lift` raises the arm."""
    package = tmp_path / "arm_description"
    (package / "urdf").mkdir(parents=True)
    (package / "package.xml").write_text("<package><name>arm_description</name></package>", encoding="utf-8")
    text = PANDA.urdf.read_text(encoding="utf-8")
    body = text[text.index("<link") : text.rindex("</robot>")]
    old = '<origin rpy="0 0 0" xyz="0 0 0.333"/>'
    assert body.count(old) == 1
    body = body.replace(old, '<origin rpy="0 0 0" xyz="0 0 ${0.333 + float(lift)}"/>')
    (package / "urdf" / "body.xacro").write_text(f"{HEAD}{body}</robot>", encoding="utf-8")
    arm = (
        f'{HEAD}<xacro:arg name="lift" default="0"/><xacro:property name="lift" value="$(arg lift)"/>'
        '<xacro:include filename="$(find arm_description)/urdf/body.xacro"/></robot>'
    )
    (package / "urdf" / "arm.urdf.xacro").write_text(arm, encoding="utf-8")

    def make(line="urdf/arm.urdf.xacro"):
        path = package / "arm.yaml"
        path.write_text(PANDA.text.replace("urdf: urdf/panda.urdf", f"urdf: {line}"), encoding="utf-8")
        return path

    return make


def test_a_xacro_file_is_taken_as_it_is_from_any_folder(arm, monkeypatch):
    monkeypatch.chdir("/")
    contract = load_contract(arm())
    assert contract.urdf.suffix == ".urdf" and contract.xacro is not None
    q = PANDA.joints.home
    np.testing.assert_allclose(Kinematics(contract).placement(q), Kinematics(PANDA).placement(q), atol=1e-12)
    assert load_contract(arm()).urdf == contract.urdf


def test_its_arguments_stand_behind_it(arm):
    contract = load_contract(arm("urdf/arm.urdf.xacro lift:=0.25"))
    assert contract.xacro_arguments == {"lift": "0.25"}
    q = PANDA.joints.home
    height = Kinematics(contract).placement(q).translation[2] - Kinematics(PANDA).placement(q).translation[2]
    assert height == pytest.approx(0.25)
    assert 'xyz="0 0 0.583"' in robot_description(contract)


def test_its_meshes_are_found_from_where_it_lies(tmp_path):
    folder = tmp_path / "robot"
    folder.mkdir()
    (folder / "hook.stl").touch()
    mesh = '<link name="a"><visual><geometry><mesh filename="{}"/></geometry></visual></link>'
    source = folder / "arm.xacro"
    source.write_text(f"{HEAD}{mesh.format('hook.stl')}</robot>", encoding="utf-8")
    assert f'"{folder / "hook.stl"}"' in expanded_urdf(source, {}).read_text(encoding="utf-8")
    source.write_text(f"{HEAD}{mesh.format('package://nobody/hook.stl')}</robot>", encoding="utf-8")
    assert '"package://nobody/hook.stl"' in expanded_urdf(source, {}).read_text(encoding="utf-8")


@pytest.mark.parametrize("mesh", ["file:///$(find arm_description)/hook.stl", "$(find arm_description)/hook.stl"])
@pytest.mark.parametrize("parent", ["checkout", "a & b's checkout"])
def test_its_meshes_are_found_by_the_folder_of_a_package(tmp_path, mesh, parent):
    """As in UFACTORY's descriptions; the same text each time, for a self-test counts for one description."""
    package = tmp_path / parent / "arm_description"
    (tmp_path / parent / "arm_description_2").mkdir(parents=True)
    for folder in (package, tmp_path / parent / "arm_description_2"):
        folder.mkdir(exist_ok=True)
        (folder / "package.xml").write_text(f"<package><name>{folder.name}</name></package>", encoding="utf-8")
        (folder / "hook.stl").touch()
    shapes = "".join(
        f'<visual><geometry><mesh filename="{name}"/></geometry></visual>'
        for name in (mesh, mesh.replace("arm_description", "arm_description_2"))
    )
    source = package / "arm.xacro"
    source.write_text(f'{HEAD}<link name="a">{shapes}</link></robot>', encoding="utf-8")
    written = expanded_urdf(source, {})
    names = [found.get("filename") for found in ElementTree.parse(written).iter("mesh")]
    files = [mesh_path(name, written) for name in names]
    assert files == [package / "hook.stl", tmp_path / parent / "arm_description_2" / "hook.stl"]
    assert expanded_urdf(source, {}) == written


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("urdf/arm.urdf.xacro lift:=up", r"arm\.urdf\.xacro: xacro cannot expand it"),
        ("urdf/arm.urdf.xacro lift=0.2 a:=1", "then name:=value"),
        ("urdf/arm.urdf.xacro lift:=1 lift:=2", "each name once"),
        ("urdf/panda.urdf lift:=0.2", "only a .xacro file takes arguments"),
        ("urdf/nobody.urdf.xacro", "nobody.urdf.xacro"),
    ],
)
def test_what_cannot_be_expanded_is_one_sentence(arm, line, message):
    with pytest.raises(ContractError, match=message) as caught:
        load_contract(arm(line))
    assert "\n" not in str(caught.value)


def test_a_package_that_is_nowhere_is_named(tmp_path):
    source = tmp_path / "arm.xacro"
    source.write_text(f'{HEAD}<xacro:include filename="$(find nobody)/a.xacro"/></robot>', encoding="utf-8")
    with pytest.raises(ContractError, match="nobody"):
        expanded_urdf(source, {})


def test_without_xacro_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xacro", None)
    (tmp_path / "arm.xacro").write_text(f"{HEAD}</robot>", encoding="utf-8")
    with pytest.raises(ContractError, match="pip install xacro"):
        expanded_urdf(tmp_path / "arm.xacro", {})


def test_a_plain_file_may_have_blanks_in_its_name():
    assert split_arguments("my arm.urdf", "x") == ("my arm.urdf", {})
