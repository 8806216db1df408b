"""Robot contract: one YAML file shared by recording, training and deployment.

A missing line is an error, never a default: a robot whose limits are unknown does not move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from vla_ros.actions.groups import TOOL_FRAME
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ContractError
from vla_ros.naming import expected_names
from vla_ros.paths import expanded, share_file, share_roots
from vla_ros.robot.description.xacro_files import XACRO, expanded_urdf, split_arguments
from vla_ros.robot.sections.arm import (
    FIXED_TOLERANCE,
    ArmContract,
    ArmInterface,
    CartesianContract,
    ControllerContract,
    GripperInterface,
    JointContract,
    parse_arm,
)
from vla_ros.robot.sections.arm_list import (
    check_action,
    merged_contact,
    merged_controllers,
    merged_joints,
    of_each_arm,
    parse_arms,
)
from vla_ros.robot.sections.camera import CameraContract, parse_cameras
from vla_ros.robot.sections.contact import ContactContract
from vla_ros.robot.sections.gripper import GripperContract
from vla_ros.robot.sections.section import Section
from vla_ros.yaml_files import parse_yaml, read_text, why_unusable

__all__ = [
    "FIXED_TOLERANCE",
    "ArmContract",
    "ArmInterface",
    "CameraContract",
    "CartesianContract",
    "ControllerContract",
    "GripperContract",
    "GripperInterface",
    "JointContract",
    "RobotContract",
    "load_contract",
    "parse_contract",
]

ROBOTS = Path("config/robots")
"""Folder of the named contracts, relative to the shipped files."""


@dataclass(frozen=True)
class RobotContract:
    """Complete description of one robot.

    `joints` are those of all arms, arm after arm. `end_effector_frame`, `cartesian` and `gripper` are those of the only
    arm; with several arms, reading them is an error unless one arm leads (`led_by`). `arms` has those of each.
    """

    name: str
    urdf: Path
    base_frame: str
    end_effector_frame: str
    joints: JointContract
    cartesian: CartesianContract
    gripper: GripperContract
    cameras: tuple[CameraContract, ...]
    controllers: ControllerContract
    action: ActionSpace
    text: str
    """YAML text of the contract; a checkpoint keeps it, so that a mismatch can be shown line by line."""
    contact: ContactContract | None = None
    """Contact detection; None, in contracts that predate it: off."""
    xacro: Path | None = None
    """The xacro file from which `urdf` was generated; None if the contract names none."""
    xacro_arguments: Mapping[str, str] = field(default_factory=dict)
    """Arguments that the contract passes to xacro."""
    each_arm: tuple[ArmContract, ...] = ()
    """Arms of a robot with several; prefer `arms`, which includes changes made to the leading arm."""
    lead: str = ""
    """Name of the leading arm, whose values the single-arm fields have; "" for none."""

    @property
    def arms(self) -> tuple[ArmContract, ...]:
        """All arms, in the order of their joints; a single arm is a tuple of one."""
        if not self.each_arm:
            name = self.action.only_motion.arm
            return (self._arm(name, self.joints, self.controllers, self.contact),)
        return tuple(
            self._arm(arm.name, arm.joints, arm.controllers, arm.contact) if arm.name == self.lead else arm
            for arm in self.each_arm
        )

    def _arm(
        self, name: str, joints: JointContract, controllers: ControllerContract, contact: ContactContract | None
    ) -> ArmContract:
        frame, box, gripper = self.end_effector_frame, self.cartesian, self.gripper
        return ArmContract(name, frame, joints, box, gripper, controllers, contact)

    def led_by(self, arm: str) -> RobotContract:
        """Return the contract with `arm` as the leading arm: the single-arm fields are those of this arm.

        Raises:
            ContractError: for an unknown arm.
        """
        names = [one.name for one in self.arms]
        if arm not in names:
            raise ContractError(f"robot '{self.name}' has no arm '{arm}'; it has {names}")
        if not self.each_arm:
            return self
        one = self.arms[names.index(arm)]
        return replace(
            self,
            each_arm=self.arms,
            lead=arm,
            end_effector_frame=one.end_effector_frame,
            cartesian=one.cartesian,
            gripper=one.gripper,
        )

    @property
    def leading(self) -> ArmContract:
        """The only arm, or the leading one.

        Raises:
            ContractError: when there are several and none leads.
        """
        found = [arm for arm in self.arms if not self.each_arm or arm.name == self.lead]
        if not found:
            raise ContractError(f"robot '{self.name}' has arms {[arm.name for arm in self.arms]}, expected one")
        return found[0]

    def joint_columns(self, arm: str) -> slice:
        """Return the slice of `joints` that belongs to an arm.

        Raises:
            ContractError: for an unknown arm.
        """
        first = 0
        for one in self.arms:
            if one.name == arm:
                return slice(first, first + one.joints.count)
            first += one.joints.count
        raise ContractError(f"robot '{self.name}' has no arm '{arm}'; it has {[one.name for one in self.arms]}")

    @property
    def joint_owners(self) -> NDArray[np.int64]:
        """Index of the arm to which each of `joints` belongs, (n,)."""
        counts = [arm.joints.count for arm in self.arms]
        return np.repeat(np.arange(len(counts), dtype=np.int64), counts)

    @property
    def commands_joints(self) -> bool:
        """Whether the policy's actions are in joint space rather than tool space; always so with several arms."""
        return bool(self.each_arm) or self.action.only_motion.quantity.of_joints

    @property
    def finger_names(self) -> tuple[str, ...]:
        """Names of the finger joints of all arms, arm after arm."""
        return tuple(name for arm in self.arms for name in arm.gripper.names)

    @property
    def fingers_open(self) -> tuple[float, ...]:
        """Position of each finger joint at the largest opening, m or rad."""
        return tuple(position for arm in self.arms for position in arm.gripper.open)

    @property
    def fingers_closed(self) -> tuple[float, ...]:
        """Position of each finger joint at the smallest opening, m or rad."""
        return tuple(position for arm in self.arms for position in arm.gripper.closed)

    def finger_positions(self, openings: Sequence[float]) -> list[float]:
        """Return the finger joint positions, m or rad, for the `openings` of the arms' grippers, m."""
        arms = zip(self.arms, openings, strict=True)
        return [position for arm, opening in arms for position in arm.gripper.joint_positions(opening)]

    def openings(self, fingers: Sequence[float]) -> tuple[float, ...]:
        """Return the opening of each arm's gripper, m, at finger joint positions, m or rad; 0 without a gripper."""
        found, first = [], 0
        for arm in self.arms:
            count = len(arm.gripper.names)
            found.append(arm.gripper.opening(fingers[first : first + count]))
            first += count
        return tuple(found)

    def camera(self, name: str) -> CameraContract:
        """Return the camera called `name`.

        Raises:
            ContractError: for an unknown camera, listing the known ones.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise ContractError(f"robot '{self.name}' has no camera '{name}'; it has {[c.name for c in self.cameras]}")


def load_contract(robot: str | Path) -> RobotContract:
    """Load the contract of a robot by name ("panda") or by the path of its YAML file.

    Raises:
        ContractError: when the file does not exist, or a line is missing, unknown or invalid.
    """
    given = Path(robot)
    is_file = given.suffix in {".yaml", ".yml"}
    try:
        path = share_file(given if is_file else ROBOTS / f"{robot}.yaml")
    except FileNotFoundError as error:
        if is_file:
            raise ContractError(f"no robot contract '{robot}': {error}") from error
        names = {one.stem for root in share_roots() for one in (root / ROBOTS).glob("*.yaml")}
        raise ContractError(
            f"no robot contract '{robot}'; {expected_names(str(robot), sorted(names))}, or the path of a YAML file"
        ) from error
    try:
        text = read_text(path, "robot contract")
    except OSError as error:
        raise ContractError(f"robot contract {path}: {error.strerror}") from error
    return parse_contract(text, where=str(path.name), folder=path.parent)


def parse_contract(text: str, where: str = "robot contract", folder: Path | None = None) -> RobotContract:
    """Parse a contract from YAML text; see `load_contract`.

    Args:
        text: YAML text.
        where: Name of the contract in error messages.
        folder: The contract's own folder, searched for the robot description before the shipped files.
    """
    try:
        root = Section(parse_yaml(text), where)
    except yaml.YAMLError as error:
        raise ContractError(f"{where}: {why_unusable(error)}") from error
    several = "arms" in root.values
    of_arm = () if several else ("end_effector_frame", "joints", "cartesian", "gripper", "contact")
    root.only("name", "urdf", "base_frame", "arms", *of_arm, "cameras", "controllers", "action")
    description, arguments = split_arguments(root.text("urdf"), f"{where}.urdf")
    source = find_description(description, where, folder)
    base_frame, action = root.text("base_frame"), ActionSpace.from_dict(root.section("action").values)
    check_frames(action, base_frame, where)
    arms = parse_arms(root) if several else (parse_arm(root, action.only_motion.arm, root.section("controllers")),)
    check_action(arms, action, where)
    is_xacro = source.suffix == XACRO
    return RobotContract(
        name=root.text("name"),
        urdf=expanded_urdf(source, arguments) if is_xacro else source,
        base_frame=base_frame,
        joints=merged_joints(arms, where),
        cameras=parse_cameras(root),
        controllers=merged_controllers(arms),
        action=action,
        text=text,
        contact=merged_contact(arms, where),
        xacro=source if is_xacro else None,
        xacro_arguments=arguments,
        **of_each_arm(arms),
    )


def check_frames(action: ActionSpace, base_frame: str, where: str) -> None:
    """Reject an action space in a frame that is neither the robot's base nor its tool.

    Raises:
        ContractError: naming the frame.
    """
    for group in action.groups:
        if group.frame not in ("", base_frame, TOOL_FRAME):
            raise ContractError(
                f"{where}.action.frame: got '{group.frame}', expected the base_frame, '{base_frame}', or "
                f"'{TOOL_FRAME}': one of them has the axes"
            )


def find_description(name: str, where: str, folder: Path | None) -> Path:
    """Return the absolute path of the robot description: next to the contract, or a shipped one.

    Raises:
        ContractError: naming every folder that was searched.
    """
    beside = None if folder is None else (folder / expanded(name)).resolve()
    if beside is not None and beside.is_file():
        return beside
    try:
        return share_file(name)
    except FileNotFoundError as error:
        also = "" if beside is None else f" and is not beside the contract, at {beside}"
        raise ContractError(f"{where}.urdf: {error}{also}") from error
