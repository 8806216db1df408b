"""Transforms from each link of a robot description to its parent link, for the TF tree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree import ElementTree

import pinocchio

from vla_ros.errors import ContractError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.description.urdf import joint_axis, joint_placement, with_camera_links, with_fixed_joints
from vla_ros.robot.posture import Mimic, described_mimics

Vector: TypeAlias = tuple[float, float, float]
Quaternion: TypeAlias = tuple[float, float, float, float]

TURNS, SLIDES = ("revolute", "continuous"), ("prismatic",)


@dataclass(frozen=True)
class LinkTransform:
    """Transform of a link in the frame of its parent.

    Attributes:
        parent: Name of the parent link.
        child: Name of the link.
        translation: x, y, z, m.
        rotation: Quaternion x, y, z, w.
    """

    parent: str
    child: str
    translation: Vector
    rotation: Quaternion


@dataclass(frozen=True)
class _MovingLink:
    """A link behind a moving joint; `axis` is its axis in the joint frame, `axis_in_parent` in the parent link's."""

    joint: str
    at_zero: LinkTransform
    turns: bool
    axis: Vector
    axis_in_parent: Vector

    def at(self, position: float) -> LinkTransform:
        """Return the transform with the joint at `position`, rad or m."""
        zero = self.at_zero
        if not self.turns:
            x, y, z = (a + position * b for a, b in zip(zero.translation, self.axis_in_parent, strict=True))
            return LinkTransform(zero.parent, zero.child, (x, y, z), zero.rotation)
        sine, c = math.sin(0.5 * position), math.cos(0.5 * position)
        a, b, d = (sine * value for value in self.axis)
        x, y, z, w = zero.rotation
        turned = (
            w * a + x * c + y * d - z * b,
            w * b - x * d + y * c + z * a,
            w * d + x * b - y * a + z * c,
            w * c - x * a - y * b - z * d,
        )
        return LinkTransform(zero.parent, zero.child, zero.translation, turned)


class LinkFrames:
    """The link transforms of one robot description.

    Attributes:
        fixed: Transforms of links behind fixed joints.
        unsupported: Joints of other types (floating, planar), whose links are not in the tree.
    """

    def __init__(self, urdf: str) -> None:
        """Parse a URDF text.

        Raises:
            ContractError: when it is not XML, or a joint's numbers are not numeric.
        """
        try:
            root = ElementTree.fromstring(urdf)
        except ElementTree.ParseError as error:
            raise ContractError(f"the robot description cannot be read: {error}") from error
        self._mimics: Mapping[str, Mimic] = described_mimics(urdf)
        fixed, moving, unsupported = [], [], []
        for joint in root.findall("joint"):
            kind, name = joint.get("type"), str(joint.get("name"))
            placement = joint_placement(joint)
            zero = LinkTransform(
                _linked(joint, "parent"),
                _linked(joint, "child"),
                _vector(placement.translation),
                _quaternion(placement),
            )
            if kind == "fixed":
                fixed.append(zero)
            elif kind in (*TURNS, *SLIDES):
                axis = joint_axis(joint)
                moved = _vector(placement.rotation @ axis)
                moving.append(_MovingLink(name, zero, kind in TURNS, _vector(axis), moved))
            else:
                unsupported.append(name)
        self.fixed, self.unsupported = tuple(fixed), tuple(unsupported)
        self._moving = tuple(moving)

    @property
    def children(self) -> frozenset[str]:
        """Links whose transform is known."""
        return frozenset([*(one.child for one in self.fixed), *(one.at_zero.child for one in self._moving)])

    def moving(self, positions: Mapping[str, float]) -> Iterator[LinkTransform]:
        """Yield the transforms behind joints whose position is given, or follows from another joint's (<mimic>).

        Args:
            positions: Position by joint name, rad or m.
        """
        for link in self._moving:
            position = self._position(link.joint, positions)
            if position is not None:
                yield link.at(position)

    def _position(self, joint: str, positions: Mapping[str, float]) -> float | None:
        scale, offset = 1.0, 0.0
        for _ in range(1 + len(self._mimics)):  # bounded: mimic joints may form a cycle
            if joint in positions:
                return scale * positions[joint] + offset
            if joint not in self._mimics:
                return None
            mimic = self._mimics[joint]
            scale, offset, joint = scale * mimic.multiplier, offset + scale * mimic.offset, mimic.leader
        return None


def complete_description(contract: RobotContract, urdf: str | None = None) -> str:
    """Return the URDF text to publish: with fixed joints and camera frames.

    Args:
        contract: Contract of the robot.
        urdf: URDF text to use instead of the contract's file.

    Raises:
        ContractError: as for `with_fixed_joints` and `with_camera_links`.
    """
    text = contract.urdf.read_text(encoding="utf-8") if urdf is None else urdf
    return with_camera_links(with_fixed_joints(text, contract.joints.fixed), contract.cameras)


def cameras_without_frame(contract: RobotContract, frames: LinkFrames) -> list[str]:
    """Return the names of the cameras whose optical frame is neither in the description nor in the contract."""
    return [camera.name for camera in contract.cameras if camera.frame.lstrip("/") not in frames.children]


def _linked(joint: ElementTree.Element, end: str) -> str:
    element = joint.find(end)
    link = None if element is None else element.get("link")
    if not link:
        raise ContractError(f"joint '{joint.get('name')}' of the robot description has no <{end} link=...>")
    return link


def _vector(values: object) -> Vector:
    x, y, z = (float(value) for value in values)  # type: ignore[attr-defined]
    return x, y, z


def _quaternion(placement: pinocchio.SE3) -> Quaternion:
    x, y, z, w = (float(value) for value in pinocchio.Quaternion(placement.rotation).normalized().coeffs())
    return x, y, z, w
