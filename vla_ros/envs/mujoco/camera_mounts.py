"""Camera poses of a workcell: from the contract, else from the robot description.

Poses are those of optical frames (z forward, x right, y down); MuJoCo's cameras look along -z with y up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pinocchio

from vla_ros.envs.mujoco.layout import Layout
from vla_ros.errors import SimulationError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.description.urdf import joint_placement
from vla_ros.robot.sections.camera import CameraContract

FIXED_FIELD_OF_VIEW, MOVING_FIELD_OF_VIEW = 35.0, 65.0
"""Vertical field of view of fixed cameras and of those on the arm, deg, unless the contract sets it."""

FRONT_POSITION, FRONT_TARGET = (1.20, 0.0, 0.70), (0.47, 0.0, 0.13)
"""Default position and target of the camera "front", m, for the reference workspace."""

HAND_POSITION, HAND_TARGET = (0.085, 0.0, 0.035), (0.020, 0.0, 0.15)
"""Default position and target of the camera "wrist" on a link `*_hand`, m in the link's frame."""

TOOL_POSITION, TOOL_TARGET = (0.085, 0.0, -0.068), (0.020, 0.0, 0.047)
"""The same on the end effector frame of a robot without such a link; z is the tool's pointing direction."""

POSE_ROUNDING = 1e-6
"""Tolerance for a pose that is a rounded default view, m or rad: contracts round, so the exact view is used."""

_RIGHT = (0.0, 1.0, 0.0)
_DEFAULTS = ("front", "wrist")


@dataclass(frozen=True)
class CameraMount:
    """A camera attached to a link.

    Attributes:
        name: Name of the camera.
        link: Link that carries it; "" for the world.
        position: (3,) m in the link's frame.
        axes: MuJoCo `xyaxes` (6,): image right and image up, in the link's frame.
        field_of_view: Vertical, deg.
    """

    name: str
    link: str
    position: tuple[float, ...]
    axes: tuple[float, ...]
    field_of_view: float


def camera_mounts(contract: RobotContract, urdf: str, layout: Layout) -> list[CameraMount]:
    """Return the mount of each camera of the contract.

    Args:
        contract: The robot.
        urdf: Text of its description; joints that the contract fixes are already fixed.
        layout: Layout of the workcell, for the default front view.

    Raises:
        SimulationError: naming a camera without a pose, or whose link does not exist.
    """
    tree = _LinkTree(ElementTree.fromstring(urdf))
    defaults = _default_views(contract, tree, layout)
    return [_mount(camera, contract, tree, defaults) for camera in contract.cameras]


def _mount(
    camera: CameraContract, contract: RobotContract, tree: _LinkTree, defaults: list[CameraMount]
) -> CameraMount:
    frame = camera.frame.lstrip("/")
    if camera.pose is not None:
        if camera.pose.parent not in tree.links:
            raise SimulationError(
                f"cameras.{camera.name}.pose.parent: {contract.urdf.name} has no link '{camera.pose.parent}'"
            )
        link = camera.pose.parent
        placement = pinocchio.SE3(pinocchio.rpy.rpyToMatrix(camera.pose.rpy), np.array(camera.pose.xyz))
    elif frame in tree.links:
        link, placement = frame, pinocchio.SE3.Identity()
    else:
        for view in defaults:
            if view.name == camera.name:
                return _with_contract_view(view, camera)
        raise SimulationError(
            f"cameras.{camera.name}: the simulation does not know where the camera is: add 'pose: {{parent: <link>, "
            f"xyz: [...], rpy: [...]}}' of its optical frame to the contract, or a link '{frame}' to "
            f"{contract.urdf.name}"
        )
    carrier, placement = tree.carrier(link, placement)
    axes = (*placement.rotation[:, 0], *(-placement.rotation[:, 1]))
    fov = FIXED_FIELD_OF_VIEW if carrier == "" or not tree.moves(carrier) else MOVING_FIELD_OF_VIEW
    mount = CameraMount(camera.name, carrier, tuple(placement.translation.tolist()), tuple(map(float, axes)), fov)
    return _with_contract_view(_exact(mount, defaults), camera)


def _with_contract_view(mount: CameraMount, camera: CameraContract) -> CameraMount:
    if camera.field_of_view is None:
        return mount
    return CameraMount(mount.name, mount.link, mount.position, mount.axes, camera.field_of_view)


def _exact(mount: CameraMount, defaults: list[CameraMount]) -> CameraMount:
    """Return the default view that the mount equals up to rounding, else the mount."""
    for view in defaults:
        near = np.allclose(view.position, mount.position, atol=POSE_ROUNDING, rtol=0.0)
        if view.link == mount.link and near and np.allclose(view.axes, mount.axes, atol=POSE_ROUNDING, rtol=0.0):
            return CameraMount(mount.name, view.link, view.position, view.axes, mount.field_of_view)
    return mount


def _default_views(contract: RobotContract, tree: _LinkTree, layout: Layout) -> list[CameraMount]:
    """Return the default views of cameras named "front" and "wrist"."""
    position, target = FRONT_POSITION, FRONT_TARGET
    if not layout.is_reference or layout.top != 0.0:
        position, target = (_moved(point, layout) for point in (position, target))
    views = [CameraMount("front", "", position, _looking(position, target), FIXED_FIELD_OF_VIEW)]
    hand = next((link for link in tree.order if link.endswith("_hand")), None)
    tool = contract.end_effector_frame
    if hand is not None:
        axes = _looking(HAND_POSITION, HAND_TARGET)
        views.append(CameraMount("wrist", hand, HAND_POSITION, axes, MOVING_FIELD_OF_VIEW))
    elif tool in tree.links:
        axes = _looking(TOOL_POSITION, TOOL_TARGET)
        views.append(CameraMount("wrist", tool, TOOL_POSITION, axes, MOVING_FIELD_OF_VIEW))
    return views


def _moved(point: tuple[float, float, float], layout: Layout) -> tuple[float, float, float]:
    """Map a point of the reference workcell to another one; distances scale with the wider side."""
    (x, _), (y, _) = layout.area(((0.5, 0.5), (0.0, 0.0)))
    scale = max(layout.scale)
    return x + scale * (point[0] - 0.5), y + scale * point[1], layout.top + scale * point[2]


def _looking(position: tuple[float, ...], target: tuple[float, ...]) -> tuple[float, ...]:
    """Return MuJoCo `xyaxes` of a camera at `position` looking at `target`, with its x axis closest to +y."""
    backward = np.subtract(position, target)
    backward = backward / np.linalg.norm(backward)
    x = np.asarray(_RIGHT) - backward * float(np.dot(_RIGHT, backward))
    x = x / np.linalg.norm(x)
    return (*x, *np.cross(backward, x))


class _LinkTree:
    """Parent links and placements of a robot description."""

    def __init__(self, root: ElementTree.Element) -> None:
        self.order = [str(link.get("name")) for link in root.findall("link")]
        self.links = set(self.order)
        self._has_body = {
            str(link.get("name"))
            for link in root.findall("link")
            if any(link.find(part) is not None for part in ("inertial", "collision", "visual"))
        }
        self._joints = {str(joint.find("child").get("link")): joint for joint in root.findall("joint")}  # type: ignore[union-attr]

    def carrier(self, link: str, placement: pinocchio.SE3) -> tuple[str, pinocchio.SE3]:
        """Return the nearest ancestor of `link` that has a body of its own, and the placement in its frame.

        The world is "": it carries everything fixed to the root of the description.
        """
        while link in self._joints and link not in self._has_body and self._joints[link].get("type") == "fixed":
            placement = joint_placement(self._joints[link]) * placement
            link = self._parent(link)
        return (link if link in self._joints else ""), placement

    def moves(self, link: str) -> bool:
        """Return whether any movable joint lies between a link and the root."""
        return any(self._joints[one].get("type") != "fixed" for one in self._ancestors(link))

    def _ancestors(self, link: str) -> Iterator[str]:
        while link in self._joints:
            yield link
            link = self._parent(link)

    def _parent(self, link: str) -> str:
        return str(self._joints[link].find("parent").get("link"))  # type: ignore[union-attr]
