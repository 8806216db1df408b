"""The robot contract: one YAML file that recording, training and deployment share.

A line that is missing is an error, never a default: a robot whose limits are unknown does not move.
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
"""Where the contracts that have a name lie, below the shipped files."""


@dataclass(frozen=True)
class RobotContract:
    """Everything that the rooms need to know of one robot.

    `joints` are those of all arms, arm after arm. `end_effector_frame`, `cartesian` and `gripper` are those of the only
    arm; where there are several, reading them is an error, unless one of them leads (`led_by`): `arms` has each.
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
    """The YAML it was read from; a checkpoint keeps it, so that a mismatch can be shown line by line."""
    contact: ContactContract | None = None
    """Contact detection; None in contracts written before there was any: it is off."""
    xacro: Path | None = None
    """The xacro file that `urdf` was made of, where the contract names one."""
    xacro_arguments: Mapping[str, str] = field(default_factory=dict)
    """What the contract sets in it."""
    each_arm: tuple[ArmContract, ...] = ()
    """The arms of a robot that has several; those of `arms` count, which has the leading one as it may be changed."""
    lead: str = ""
    """Name of the arm that the lines of a single arm are of, where there are several; "": of none."""

    @property
    def arms(self) -> tuple[ArmContract, ...]:
        """The arms, in the order of their joints: one arm is a list of one."""
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
        """Return the contract with one of its arms in the lead: the lines of a single arm are those of this one.

        Raises:
            ContractError: when there is no such arm.
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
        """The only arm, or the one in the lead.

        Raises:
            ContractError: when there are several, and none leads.
        """
        found = [arm for arm in self.arms if not self.each_arm or arm.name == self.lead]
        if not found:
            raise ContractError(f"robot '{self.name}' has arms {[arm.name for arm in self.arms]}, expected one")
        return found[0]

    def joint_columns(self, arm: str) -> slice:
        """Return where the joints of an arm are among `joints`.

        Raises:
            ContractError: when there is no such arm.
        """
        first = 0
        for one in self.arms:
            if one.name == arm:
                return slice(first, first + one.joints.count)
            first += one.joints.count
        raise ContractError(f"robot '{self.name}' has no arm '{arm}'; it has {[one.name for one in self.arms]}")

    @property
    def joint_owners(self) -> NDArray[np.int64]:
        """Number of the arm that each of `joints` belongs to, (n,)."""
        counts = [arm.joints.count for arm in self.arms]
        return np.repeat(np.arange(len(counts), dtype=np.int64), counts)

    @property
    def commands_joints(self) -> bool:
        """Whether the policy's actions move the joints, and not the tool: of several arms they do."""
        return bool(self.each_arm) or self.action.only_motion.quantity.of_joints

    @property
    def finger_names(self) -> tuple[str, ...]:
        """The finger joints of all arms, arm after arm."""
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
        """Return where the finger joints stand, m or rad, at the `openings` of the arms' grippers, m."""
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
            ContractError: listing the cameras there are.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise ContractError(f"robot '{self.name}' has no camera '{name}'; it has {[c.name for c in self.cameras]}")


def load_contract(robot: str | Path) -> RobotContract:
    """Read the contract of a robot by name ("panda") or by the path of its YAML file.

    Raises:
        ContractError: when the file is absent, or a line is missing, unknown or invalid.
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
    """Read a contract from YAML text; see `load_contract`.

    Args:
        text: The YAML.
        where: What errors call it.
        folder: Where its description is looked for before the shipped files: the contract's own folder.
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
    """Refuse an action space in the axes of a frame that is neither the robot's base nor its tool.

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
    """Return the absolute path of the robot description: beside the contract, or a shipped one.

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
