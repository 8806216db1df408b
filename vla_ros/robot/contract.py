"""The robot contract: one YAML file that recording, training and deployment share.

A line that is missing is an error, never a default: a robot whose limits are unknown does not move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import yaml

from vla_ros.actions.groups import TOOL_FRAME
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ContractError
from vla_ros.naming import expected_names
from vla_ros.paths import expanded, share_file, share_roots
from vla_ros.robot.camera_contract import CameraContract, parse_cameras
from vla_ros.robot.contact_contract import ContactContract, parse_contact
from vla_ros.robot.gripper_contract import GripperContract, gripper_names, parse_gripper
from vla_ros.robot.joint_sources import JointSource, parse_joint_sources
from vla_ros.robot.section import Section
from vla_ros.robot.xacro_files import XACRO, expanded_urdf, split_arguments
from vla_ros.types import FloatArray
from vla_ros.yaml_files import parse_yaml, read_text, why_unusable

__all__ = [
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

FIXED_TOLERANCE = 0.01
"""A joint that is reported may be so far from the value at which the contract fixes it, rad or m."""


@dataclass(frozen=True)
class JointContract:
    """The arm's joints in command order; every array is (n,).

    Attributes:
        names: Names in the robot description.
        lower: Lower position limits, rad.
        upper: Upper position limits, rad.
        velocity: Largest speed, rad/s.
        acceleration: Largest acceleration, rad/s^2.
        jerk: Largest jerk, rad/s^3.
        effort: Largest torque, N m.
        home: Configuration to start from, rad.
        fixed: Position, rad or m, of every other joint of the description that neither belongs to the gripper nor
            follows one that does: the arm does not move it, and stands on it or beside it as it is there.
    """

    names: tuple[str, ...]
    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    jerk: FloatArray
    effort: FloatArray
    home: FloatArray
    fixed: Mapping[str, float] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of joints."""
        return len(self.names)

    def displaced(self, positions: Mapping[str, float]) -> dict[str, float]:
        """Return those of measured `positions`, rad or m by name, at which a fixed joint must not be.

        A fixed joint that is not among them is taken to be where the contract says.
        """
        return {
            name: positions[name]
            for name, value in self.fixed.items()
            if name in positions and not abs(positions[name] - value) <= FIXED_TOLERANCE  # NaN is displaced, too
        }


@dataclass(frozen=True)
class CartesianContract:
    """Limits at the tool: m/s, m/s^2, m/s^3, rad/s, rad/s^2, rad/s^3, and the box (3,) m it must stay in."""

    linear_velocity: float
    linear_acceleration: float
    linear_jerk: float
    angular_velocity: float
    angular_acceleration: float
    angular_jerk: float
    workspace_lower: FloatArray
    workspace_upper: FloatArray


class ArmInterface(str, Enum):
    """What the arm's controller listens to on `arm_topic`."""

    JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory: joint_trajectory_controller
    TWIST = "twist"  # geometry_msgs/TwistStamped of the tool in the base frame: MoveIt Servo
    POSE = "pose"  # geometry_msgs/PoseStamped of the tool in the base frame: Cartesian controllers


class GripperInterface(str, Enum):
    """What the gripper's controller listens to on `gripper_topic`, a topic or the name of an action."""

    JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory
    POSITIONS = "positions"  # std_msgs/Float64MultiArray, one number a joint: forward_command_controller
    GRIPPER_COMMAND = "gripper_command"  # action control_msgs/GripperCommand
    PARALLEL_GRIPPER_COMMAND = "parallel_gripper_command"  # action control_msgs/ParallelGripperCommand
    NONE = "none"  # there is no gripper: nothing is published

    @property
    def is_topic(self) -> bool:
        """Whether `gripper_topic` is the name of a topic."""
        return not self.is_action and self is not GripperInterface.NONE

    @property
    def is_action(self) -> bool:
        """Whether `gripper_topic` is the name of an action."""
        return self in (GripperInterface.GRIPPER_COMMAND, GripperInterface.PARALLEL_GRIPPER_COMMAND)


@dataclass(frozen=True)
class ControllerContract:
    """The topics of the robot's controllers and the time after which they stop by themselves, s.

    `joint_states_from` are the publishers of `joint_states_topic`; empty where one reports all joints.
    """

    arm_interface: ArmInterface
    arm_topic: str
    gripper_interface: GripperInterface
    gripper_topic: str
    joint_states_topic: str
    command_timeout: float
    joint_states_from: tuple[JointSource, ...] = ()


@dataclass(frozen=True)
class RobotContract:
    """Everything that the rooms need to know of one robot."""

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
    root.only("name", "urdf", "base_frame", "end_effector_frame", "joints", "cartesian", "gripper", "cameras",
              "controllers", "action", "contact")  # fmt: skip
    description, arguments = split_arguments(root.text("urdf"), f"{where}.urdf")
    source = find_description(description, where, folder)
    base_frame, action = root.text("base_frame"), ActionSpace.from_dict(root.section("action").values)
    for group in action.groups:
        if group.frame not in ("", base_frame, TOOL_FRAME):
            raise ContractError(
                f"{where}.action.frame: got '{group.frame}', expected the base_frame, '{base_frame}', or "
                f"'{TOOL_FRAME}': one of them has the axes"
            )
    gripper, column = parse_gripper(root), action.only_gripper
    if not gripper.present and column is not None:
        raise ContractError(f"{where}.action.gripper: got '{column.gripper.value}', expected none: there is no gripper")
    joints = _joints(root.section("joints"), gripper_names(root))
    if action.only_motion.quantity.of_joints and action.only_motion.joints != joints.count:
        raise ContractError(
            f"{where}.action: group '{action.only_motion.name}' has joints {action.only_motion.joints}, expected "
            f"{joints.count}, one for each of joints.names"
        )
    is_xacro = source.suffix == XACRO
    return RobotContract(
        name=root.text("name"),
        urdf=expanded_urdf(source, arguments) if is_xacro else source,
        base_frame=base_frame,
        end_effector_frame=root.text("end_effector_frame"),
        joints=joints,
        cartesian=_cartesian(root.section("cartesian")),
        gripper=gripper,
        cameras=parse_cameras(root),
        controllers=_controllers(root.section("controllers"), joints.names, gripper.names),
        action=action,
        text=text,
        contact=parse_contact(root.section("contact"), joints.count) if "contact" in root.values else None,
        xacro=source if is_xacro else None,
        xacro_arguments=arguments,
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


def _joints(section: Section, fingers: tuple[str, ...]) -> JointContract:
    section.only("names", "lower", "upper", "velocity", "acceleration", "jerk", "effort", "home", "fixed")
    names = section.names("names")
    n = len(names)
    joints = JointContract(
        names=names,
        lower=section.vector("lower", n),
        upper=section.vector("upper", n),
        velocity=section.vector("velocity", n, positive=True),
        acceleration=section.vector("acceleration", n, positive=True),
        jerk=section.vector("jerk", n, positive=True),
        effort=section.vector("effort", n, positive=True),
        home=section.vector("home", n),
        fixed=section.numbers("fixed"),
    )
    if moved := sorted(set(joints.fixed) & {*names, *fingers}):
        raise ContractError(f"{section.where}.fixed: {moved} are moved: by joints.names or by gripper.names")
    if not (joints.lower < joints.upper).all():
        raise ContractError(f"{section.where}: every lower limit must be below its upper limit")
    if not ((joints.lower <= joints.home) & (joints.home <= joints.upper)).all():
        raise ContractError(f"{section.where}.home: lies outside the joint limits")
    return joints


def _cartesian(section: Section) -> CartesianContract:
    numbers = ("linear_velocity", "linear_acceleration", "linear_jerk",
               "angular_velocity", "angular_acceleration", "angular_jerk")  # fmt: skip
    section.only(*numbers, "workspace")
    box = section.section("workspace").only("lower", "upper")
    lower, upper = box.vector("lower", 3), box.vector("upper", 3)
    if not (lower < upper).all():
        raise ContractError(f"{box.where}: every lower bound must be below its upper bound")
    return CartesianContract(
        **{name: section.number(name) for name in numbers}, workspace_lower=lower, workspace_upper=upper
    )


def _controllers(section: Section, arm: tuple[str, ...], fingers: tuple[str, ...]) -> ControllerContract:
    of_gripper = ("gripper_interface", "gripper_topic") if fingers else ()
    section.only("arm_interface", "arm_topic", *of_gripper, "joint_states_topic", "joint_states_from",
                 "command_timeout")  # fmt: skip
    return ControllerContract(
        arm_interface=section.choice("arm_interface", ArmInterface),
        arm_topic=section.text("arm_topic"),
        gripper_interface=_gripper_interface(section) if fingers else GripperInterface.NONE,
        gripper_topic=section.text("gripper_topic") if fingers else "",
        joint_states_topic=section.text("joint_states_topic"),
        command_timeout=section.number("command_timeout"),
        joint_states_from=parse_joint_sources(section, (*arm, *fingers)),
    )


def _gripper_interface(section: Section) -> GripperInterface:
    interface = section.choice("gripper_interface", GripperInterface)
    if interface is GripperInterface.NONE:
        raise ContractError(
            f"{section.where}.gripper_interface: got 'none', but the contract has a gripper; without one write "
            "'gripper: none' in place of its section"
        )
    return interface
