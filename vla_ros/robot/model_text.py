"""The robot description as the models here read it: meshes by absolute path, the arm's joints between limits."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.mesh_paths import with_absolute_meshes
from vla_ros.yaml_files import read_text


def model_text(contract: RobotContract) -> str:
    """Return the text of the contract's URDF from which models are built.

    A joint of the arm that the description lets turn on and on is one that turns between the contract's limits here:
    its angle is a number then like that of every other joint. Where nothing is to be changed, and where the text is
    not XML, it is returned as it is; its parser says what is wrong with it.

    Raises:
        ContractError: when a mesh is not there.
    """
    text = read_text(contract.urdf, "robot description")
    if "<mesh" not in text and '"continuous"' not in text:
        return text
    joints = contract.joints
    limits = zip(joints.names, joints.lower.tolist(), joints.upper.tolist(), strict=True)
    return _changed(text, contract.urdf, tuple(limits))


@lru_cache(maxsize=8)
def _changed(text: str, urdf: Path, limits: tuple[tuple[str, float, float], ...]) -> str:
    """Return the text with what models need; `limits` are name, lower and upper of the arm's joints, rad."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return text
    with_absolute_meshes(root, urdf)
    for link in root.findall("link"):
        for visual in link.findall("visual"):
            link.remove(visual)
    bounds = {name: (lower, upper) for name, lower, upper in limits}
    for joint in root.findall("joint"):
        if joint.get("type") == "continuous" and (name := str(joint.get("name"))) in bounds:
            _bound(joint, *bounds[name])
    return ElementTree.tostring(root, encoding="unicode")


def continuous_joints(contract: RobotContract) -> frozenset[str]:
    """Return which joints of the arm the description lets turn on and on; none where it is not XML."""
    endless = _continuous(read_text(contract.urdf, "robot description"))
    return endless.intersection(contract.joints.names)


@lru_cache(maxsize=8)
def _continuous(text: str) -> frozenset[str]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return frozenset()
    return frozenset(str(joint.get("name")) for joint in root.findall("joint") if joint.get("type") == "continuous")


def _bound(joint: ElementTree.Element, lower: float, upper: float) -> None:
    """Give a continuous joint limits, rad; without a <limit> it has none of speed or torque."""
    joint.set("type", "revolute")
    limit = joint.find("limit")
    if limit is None:
        limit = ElementTree.SubElement(joint, "limit", velocity="0", effort="0")
    limit.set("lower", repr(lower))
    limit.set("upper", repr(upper))
