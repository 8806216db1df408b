"""Contract of one arm, joints, tool, gripper and controllers, and its parser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from vla_ros.errors import ContractError
from vla_ros.robot.joint_states.sources import JointSource, parse_joint_sources
from vla_ros.robot.sections.contact import ContactContract, parse_contact
from vla_ros.robot.sections.gripper import GripperContract, gripper_names, parse_gripper
from vla_ros.robot.sections.section import Section
from vla_ros.types import FloatArray

FIXED_TOLERANCE = 0.01
"""Largest deviation of a reported fixed joint from its position in the contract, rad or m."""


@dataclass(frozen=True)
class JointContract:
    """The arm's joints in command order; every array is (n,).

    Attributes:
        names: Names in the robot description.
        lower: Lower position limits, rad.
        upper: Upper position limits, rad.
        velocity: Speed limits, rad/s.
        acceleration: Acceleration limits, rad/s^2.
        jerk: Jerk limits, rad/s^3.
        effort: Torque limits, N m.
        home: Home configuration, rad.
        fixed: Fixed position, rad or m, of every other joint of the description, except the gripper's and those that
            mimic them. The arm does not move these joints; its kinematics assume them there.
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
        """Return the measured `positions`, rad or m by name, of fixed joints that are not where the contract says.

        A fixed joint without a measurement is assumed to be in place.
        """
        return {
            name: positions[name]
            for name, value in self.fixed.items()
            if name in positions and not abs(positions[name] - value) <= FIXED_TOLERANCE  # NaN is displaced, too
        }


@dataclass(frozen=True)
class CartesianContract:
    """Tool limits, m/s, m/s^2, m/s^3, rad/s, rad/s^2, rad/s^3, and the workspace box, corners (3,) m."""

    linear_velocity: float
    linear_acceleration: float
    linear_jerk: float
    angular_velocity: float
    angular_acceleration: float
    angular_jerk: float
    workspace_lower: FloatArray
    workspace_upper: FloatArray


class ArmInterface(str, Enum):
    """Command interface of the arm's controller on `arm_topic`."""

    JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory: joint_trajectory_controller
    TWIST = "twist"  # geometry_msgs/TwistStamped of the tool in the base frame: MoveIt Servo
    POSE = "pose"  # geometry_msgs/PoseStamped of the tool in the base frame: Cartesian controllers


class GripperInterface(str, Enum):
    """Command interface of the gripper's controller; `gripper_topic` is the name of a topic or an action."""

    JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory
    POSITIONS = "positions"  # std_msgs/Float64MultiArray, one value per joint: forward_command_controller
    GRIPPER_COMMAND = "gripper_command"  # action control_msgs/GripperCommand
    PARALLEL_GRIPPER_COMMAND = "parallel_gripper_command"  # action control_msgs/ParallelGripperCommand
    NONE = "none"  # no gripper: nothing is published

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
    """Topics of the robot's controllers, and their command timeout, s, after which they stop by themselves.

    `joint_states_from` lists the publishers of `joint_states_topic`; empty where one publishes all joints.
    """

    arm_interface: ArmInterface
    arm_topic: str
    gripper_interface: GripperInterface
    gripper_topic: str
    joint_states_topic: str
    command_timeout: float
    joint_states_from: tuple[JointSource, ...] = ()


@dataclass(frozen=True)
class ArmContract:
    """One arm of a robot.

    Attributes:
        name: Name of the arm, as in the names of its action groups.
        end_effector_frame: Tool frame.
        joints: The arm's own joints, in command order.
        cartesian: Tool limits; the workspace is in the robot's base frame.
        gripper: Gripper, or `NO_GRIPPER`.
        controllers: The arm's controllers; values that concern all arms are the same in each arm.
        contact: Contact detection; None: off.
    """

    name: str
    end_effector_frame: str
    joints: JointContract
    cartesian: CartesianContract
    gripper: GripperContract
    controllers: ControllerContract
    contact: ContactContract | None = None


def parse_arm(section: Section, name: str, controllers: Section) -> ArmContract:
    """Parse the arm called `name` from its section: the whole contract where it is the only arm.

    Raises:
        ContractError: naming the missing, unknown or invalid field.
    """
    gripper = parse_gripper(section)
    joints = parse_joints(section.section("joints"), gripper_names(section))
    return ArmContract(
        name=name,
        end_effector_frame=section.text("end_effector_frame"),
        joints=joints,
        cartesian=parse_cartesian(section.section("cartesian")),
        gripper=gripper,
        controllers=parse_controllers(controllers, joints.names, gripper.names),
        contact=parse_contact(section.section("contact"), joints.count) if "contact" in section.values else None,
    )


def parse_joints(section: Section, fingers: tuple[str, ...]) -> JointContract:
    """Parse the section `joints` of an arm with the gripper joints `fingers`.

    Raises:
        ContractError: naming the missing, unknown or invalid field.
    """
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


def parse_cartesian(section: Section) -> CartesianContract:
    """Parse the section `cartesian` of an arm.

    Raises:
        ContractError: naming the missing, unknown or invalid field.
    """
    numbers = (
        "linear_velocity",
        "linear_acceleration",
        "linear_jerk",
        "angular_velocity",
        "angular_acceleration",
        "angular_jerk",
    )
    section.only(*numbers, "workspace")
    box = section.section("workspace").only("lower", "upper")
    lower, upper = box.vector("lower", 3), box.vector("upper", 3)
    if not (lower < upper).all():
        raise ContractError(f"{box.where}: every lower bound must be below its upper bound")
    return CartesianContract(
        **{name: section.number(name) for name in numbers}, workspace_lower=lower, workspace_upper=upper
    )


def parse_controllers(section: Section, arm: tuple[str, ...], fingers: tuple[str, ...]) -> ControllerContract:
    """Parse the section `controllers` of a robot with the joints `arm` and `fingers`.

    Raises:
        ContractError: naming the missing, unknown or invalid field.
    """
    of_gripper = ("gripper_interface", "gripper_topic") if fingers else ()
    section.only(
        "arm_interface", "arm_topic", *of_gripper, "joint_states_topic", "joint_states_from", "command_timeout"
    )
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
