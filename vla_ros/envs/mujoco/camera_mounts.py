"""Where the cameras of a workcell are: as the contract says, else as the robot description does.

A pose belongs to an optical frame (z forward, x right, y down); MuJoCo's cameras look along -z with y up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pinocchio

from vla_ros.envs.mujoco.layout import Layout
from vla_ros.errors import SimulationError
from vla_ros.robot.camera_contract import CameraContract
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.description import joint_placement

FIXED_FIELD_OF_VIEW, MOVING_FIELD_OF_VIEW = 35.0, 65.0
"""Vertical field of view of a camera that stands and of one on the arm, deg, where the contract says none."""

FRONT_POSITION, FRONT_TARGET = (1.20, 0.0, 0.70), (0.47, 0.0, 0.13)
"""Where the camera "front" stands when nobody says it, and what it looks at, m, for the reference workspace."""

HAND_POSITION, HAND_TARGET = (0.085, 0.0, 0.035), (0.020, 0.0, 0.15)
"""Likewise "wrist" on a link `*_hand`, m in the link's frame."""

TOOL_POSITION, TOOL_TARGET = (0.085, 0.0, -0.068), (0.020, 0.0, 0.047)
"""And on the end effector frame of a robot without such a link; z is where the tool points."""

POSE_ROUNDING = 1e-6
"""Contracts round their figures: a pose this near to a default view, m or rad, is that view exactly."""

_RIGHT = (0.0, 1.0, 0.0)
_DEFAULTS = ("front", "wrist")


@dataclass(frozen=True)
class CameraMount:
    """A camera on a link.

    Attributes:
        name: Of the camera.
        link: That carries it; "" for the world.
        position: (3,) m in the link's frame.
        axes: MuJoCo `xyaxes` (6,): where image right and image up point, in the link's frame.
        field_of_view: Vertical, deg.
    """

    name: str
    link: str
    position: tuple[float, ...]
    axes: tuple[float, ...]
    field_of_view: float


def camera_mounts(contract: RobotContract, urdf: str, layout: Layout) -> list[CameraMount]:
    """Return where each camera of the contract is.

    Args:
        contract: The robot.
        urdf: Text of its description, with the joints that the contract fixes already fixed.
        layout: Of the workcell, for the default view from the front.

    Raises:
        SimulationError: naming a camera that nobody places, or whose link is not there.
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
    """Return the default view that a mount is the rounded figures of, else the mount."""
    for view in defaults:
        near = np.allclose(view.position, mount.position, atol=POSE_ROUNDING, rtol=0.0)
        if view.link == mount.link and near and np.allclose(view.axes, mount.axes, atol=POSE_ROUNDING, rtol=0.0):
            return CameraMount(mount.name, view.link, view.position, view.axes, mount.field_of_view)
    return mount


def _default_views(contract: RobotContract, tree: _LinkTree, layout: Layout) -> list[CameraMount]:
    """Return the views of cameras called "front" and "wrist" that nobody places."""
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
    """Return a point of the reference workcell in another one; distances scale with the wider side."""
    (x, _), (y, _) = layout.area(((0.5, 0.5), (0.0, 0.0)))
    scale = max(layout.scale)
    return x + scale * (point[0] - 0.5), y + scale * point[1], layout.top + scale * point[2]


def _looking(position: tuple[float, ...], target: tuple[float, ...]) -> tuple[float, ...]:
    """Return MuJoCo `xyaxes` of a camera at `position` that looks at `target`, x axis nearest to +y."""
    backward = np.subtract(position, target)
    backward = backward / np.linalg.norm(backward)
    x = np.asarray(_RIGHT) - backward * float(np.dot(_RIGHT, backward))
    x = x / np.linalg.norm(x)
    return (*x, *np.cross(backward, x))


class _LinkTree:
    """Which link carries which, and where."""

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
        """Return the nearest link with a body of its own that carries `link`, and the placement in its frame.

        The world is "": it carries what is fixed to the root of the description.
        """
        while link in self._joints and link not in self._has_body and self._joints[link].get("type") == "fixed":
            placement = joint_placement(self._joints[link]) * placement
            link = self._parent(link)
        return (link if link in self._joints else ""), placement

    def moves(self, link: str) -> bool:
        """Tell whether a joint that moves is between a link and the root."""
        return any(self._joints[one].get("type") != "fixed" for one in self._ancestors(link))

    def _ancestors(self, link: str) -> Iterator[str]:
        while link in self._joints:
            yield link
            link = self._parent(link)

    def _parent(self, link: str) -> str:
        return str(self._joints[link].find("parent").get("link"))  # type: ignore[union-attr]
