"""Robot description text for building models: absolute mesh paths, and limits on the arm's continuous joints."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.description.mesh_paths import with_absolute_meshes
from vla_ros.yaml_files import read_text


def model_text(contract: RobotContract) -> str:
    """Return the URDF text from which models are built.

    A continuous joint of the arm becomes a revolute joint with the contract's limits, so that its configuration is one
    angle, as for every other joint. The text is returned unchanged where nothing applies, and where it is not XML: the
    model parser reports the error.

    Raises:
        ContractError: when a mesh does not exist.
    """
    text = read_text(contract.urdf, "robot description")
    if "<mesh" not in text and '"continuous"' not in text:
        return text
    joints = contract.joints
    limits = zip(joints.names, joints.lower.tolist(), joints.upper.tolist(), strict=True)
    return _changed(text, contract.urdf, tuple(limits))


@lru_cache(maxsize=8)
def _changed(text: str, urdf: Path, limits: tuple[tuple[str, float, float], ...]) -> str:
    """Return the adapted text; `limits` are name, lower and upper of the arm's joints, rad."""
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
    """Return the arm's joints that are continuous in the description; empty where it is not XML."""
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
    """Make a continuous joint revolute with limits, rad; without a <limit>, speed and effort stay unlimited."""
    joint.set("type", "revolute")
    limit = joint.find("limit")
    if limit is None:
        limit = ElementTree.SubElement(joint, "limit", velocity="0", effort="0")
    limit.set("lower", repr(lower))
    limit.set("upper", repr(upper))
