"""Robot description (URDF): parsing, and completion by the contract with fixed joints and camera frames."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import numpy as np
import pinocchio

from vla_ros.errors import ContractError
from vla_ros.robot.sections.camera import CameraContract
from vla_ros.types import FloatArray

_KEPT = ("parent", "child", "origin")
"""Child elements of a joint of type="fixed"."""


_STDERR = 2
_capturing = threading.Lock()


def read_model(urdf: Path, text: str | None = None) -> pinocchio.Model:
    """Build the kinematic model of a URDF file, or of `text` derived from it.

    Raises:
        ContractError: naming the file, with the reason reported by urdfdom.
    """
    with _capturing, tempfile.TemporaryFile() as written, _standard_error_into(written):
        try:
            return pinocchio.buildModelFromUrdf(str(urdf)) if text is None else pinocchio.buildModelFromXML(text)
        except (ValueError, RuntimeError) as error:
            written.seek(0)
            reason = _reason(written.read().decode("utf-8", errors="replace"))
            written.seek(0)
            written.truncate()  # it is in the error, no need to log it as well
            raise ContractError(f"the robot description {urdf} cannot be read: {reason or error}") from error


@contextlib.contextmanager
def _standard_error_into(file: IO[bytes]) -> Iterator[None]:
    """Redirect the process's standard error into `file`, and write what is left there to standard error afterwards.

    urdfdom reports parse errors only there.
    """
    sys.stderr.flush()
    try:
        before = os.dup(_STDERR)
    except OSError:  # it is closed
        yield
        return
    try:
        os.dup2(file.fileno(), _STDERR)
        yield
    finally:
        os.dup2(before, _STDERR)
        file.seek(0)
        with contextlib.suppress(OSError):
            os.write(before, file.read())
        os.close(before)


def _reason(written: str) -> str:
    """Extract the errors from urdfdom's output, without its source locations."""
    errors = re.findall(r"Error:\s*(.*?)\s*(?:\n\s+at line \d+ in \S+|\Z)", written, re.DOTALL)
    return "; ".join(" ".join(one.split()) for one in errors)


def with_fixed_joints(urdf: str, fixed: Mapping[str, float]) -> str:
    """Return a URDF text in which each joint of `fixed` has type="fixed", at its position.

    Simulators and visualizers assume an undriven joint at zero, or let it fall.

    Args:
        urdf: Robot description.
        fixed: Position by name, rad or m; if empty, the text is returned unchanged.

    Raises:
        ContractError: when a joint does not exist, or is not revolute, continuous or prismatic.
    """
    if not fixed:
        return urdf
    try:
        root = ElementTree.fromstring(urdf)
    except ElementTree.ParseError as error:
        raise ContractError(f"the robot description cannot be read: {error}") from error
    joints = {str(joint.get("name")): joint for joint in root.findall("joint")}
    for name, position in fixed.items():
        if name not in joints:
            raise ContractError(f"joints.fixed: the robot description has no joint '{name}'; it has {sorted(joints)}")
        _fix(joints[name], position)
    return ElementTree.tostring(root, encoding="unicode")


def with_camera_links(urdf: str, cameras: Iterable[CameraContract]) -> str:
    """Return a URDF text with a link for the optical frame of each camera with a `pose` in the contract.

    Raises:
        ContractError: when that link already exists, or the parent link does not.
    """
    placed = [(camera, camera.pose) for camera in cameras if camera.pose is not None]
    if not placed:
        return urdf
    try:
        root = ElementTree.fromstring(urdf)
    except ElementTree.ParseError as error:
        raise ContractError(f"the robot description cannot be read: {error}") from error
    links = {str(link.get("name")) for link in root.findall("link")}
    for camera, pose in placed:
        where, frame = f"cameras.{camera.name}", camera.frame.lstrip("/")
        if frame in links:
            raise ContractError(
                f"{where}.pose: the robot description has the frame '{frame}' already; leave the line out, or correct "
                f"{where}.frame"
            )
        if pose.parent not in links:
            raise ContractError(
                f"{where}.pose.parent: the robot description has no link '{pose.parent}'; it has {sorted(links)}"
            )
        ElementTree.SubElement(root, "link", name=frame)
        joint = ElementTree.SubElement(root, "joint", name=f"{frame}_joint", type="fixed")
        ElementTree.SubElement(joint, "parent", link=pose.parent)
        ElementTree.SubElement(joint, "child", link=frame)
        ElementTree.SubElement(joint, "origin", xyz=_text(pose.xyz), rpy=_text(pose.rpy))
    return ElementTree.tostring(root, encoding="unicode")


def joint_placement(joint: ElementTree.Element) -> pinocchio.SE3:
    """Return the pose of a <joint> in the frame of its parent link.

    Raises:
        ContractError: when its <origin> is not numeric.
    """
    origin = joint.find("origin")
    if origin is None:
        return pinocchio.SE3.Identity()
    rotation = pinocchio.rpy.rpyToMatrix(*_numbers(origin, "rpy", "0 0 0"))
    return pinocchio.SE3(rotation, _numbers(origin, "xyz", "0 0 0"))


def joint_axis(joint: ElementTree.Element) -> FloatArray:
    """Return the unit axis (3,) of a <joint>.

    Raises:
        ContractError: when it is not numeric, or zero.
    """
    element = joint.find("axis")
    axis = np.array([1.0, 0.0, 0.0]) if element is None else _numbers(element, "xyz", "1 0 0")
    length = float(np.linalg.norm(axis))
    if not length > 0.0:
        raise ContractError(f"joint '{joint.get('name')}' of the robot description has the axis {axis}: no direction")
    return np.asarray(axis / length)


def _fix(joint: ElementTree.Element, position: float) -> None:
    kind, name = joint.get("type"), joint.get("name")
    placement, axis = joint_placement(joint), joint_axis(joint)
    origin = joint.find("origin")
    if origin is None:
        origin = ElementTree.SubElement(joint, "origin")
    if kind == "prismatic":
        motion = pinocchio.SE3(np.eye(3), position * axis)
    elif kind in ("revolute", "continuous"):
        motion = pinocchio.SE3(pinocchio.exp3(position * axis), np.zeros(3))
    else:
        raise ContractError(f"joints.fixed: '{name}' is of type=\"{kind}\"; expected revolute, continuous or prismatic")
    moved = placement * motion
    origin.set("xyz", _text(moved.translation))
    origin.set("rpy", _text(pinocchio.rpy.matrixToRpy(moved.rotation)))
    joint.set("type", "fixed")
    for child in [child for child in joint if child.tag not in _KEPT]:
        joint.remove(child)


def _numbers(element: ElementTree.Element, name: str, default: str) -> FloatArray:
    values = np.array([float(word) for word in element.get(name, default).split()])
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ContractError(
            f'the robot description has <{element.tag} {name}="{element.get(name)}">, expected 3 numbers'
        )
    return values


def _text(values: FloatArray) -> str:
    return " ".join(repr(float(value)) for value in values)
