"""The robot contract: one YAML file that recording, training and deployment share.

A line that is missing is an error, never a default: a robot whose limits are unknown does not move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from vla_ros.actions.specification import ActionSpecification
from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.types import FloatArray, frozen_array
from vla_ros.yaml_files import parse_yaml, read_text

Choice = TypeVar("Choice", bound=Enum)


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
    """

    names: tuple[str, ...]
    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    jerk: FloatArray
    effort: FloatArray
    home: FloatArray

    @property
    def count(self) -> int:
        """Number of joints."""
        return len(self.names)


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


@dataclass(frozen=True)
class GripperContract:
    """A gripper whose joints all move together, in proportion to the opening between the fingertips.

    Attributes:
        names: Finger joints, each commanded.
        min_opening: Smallest opening, m.
        max_opening: Largest opening, m.
        closed: Position of every finger joint at the smallest opening, m or rad.
        open: Position of every finger joint at the largest opening, m or rad.
        velocity: Largest speed of the opening, m/s.
        force: Grip force, N.
    """

    names: tuple[str, ...]
    min_opening: float
    max_opening: float
    closed: float
    open: float
    velocity: float
    force: float

    def joint_positions(self, opening: float) -> list[float]:
        """Return where the finger joints stand at an opening in m: one position a joint, m or rad."""
        share = (opening - self.min_opening) / (self.max_opening - self.min_opening)
        return [self.closed + share * (self.open - self.closed)] * len(self.names)

    def opening(self, positions: Iterable[float]) -> float:
        """Return the opening, m, at finger joint positions (one a joint, m or rad): the mean of what each says."""
        shares = [(float(position) - self.closed) / (self.open - self.closed) for position in positions]
        return self.min_opening + sum(shares) / len(shares) * (self.max_opening - self.min_opening)


@dataclass(frozen=True)
class CameraContract:
    """One camera: where its images come from and how large the policy wants them (height, width)."""

    name: str
    topic: str
    info_topic: str
    frame: str
    width: int
    height: int
    rate_hz: float
    policy_height: int
    policy_width: int


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

    @property
    def is_action(self) -> bool:
        """Whether `gripper_topic` is the name of an action."""
        return self in (GripperInterface.GRIPPER_COMMAND, GripperInterface.PARALLEL_GRIPPER_COMMAND)


@dataclass(frozen=True)
class ControllerContract:
    """The topics of the robot's controllers and the time after which they stop by themselves, s."""

    arm_interface: ArmInterface
    arm_topic: str
    gripper_interface: GripperInterface
    gripper_topic: str
    joint_states_topic: str
    command_timeout: float


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
    action: ActionSpecification
    text: str
    """The YAML it was read from; a checkpoint keeps it, so that a mismatch can be shown line by line."""

    def camera(self, name: str) -> CameraContract:
        """Return the camera called `name`.

        Raises:
            ContractError: listing the cameras there are.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise ContractError(f"robot '{self.name}' has no camera '{name}'; it has {[c.name for c in self.cameras]}")


class _Section:
    """A mapping that knows its place in the file, so that an error can name the line."""

    def __init__(self, values: Any, where: str) -> None:  # noqa: ANN401 (whatever YAML holds)
        if not isinstance(values, Mapping):
            raise ContractError(f"{where}: expected a mapping, got {type(values).__name__}")
        self.values, self.where = values, where

    def only(self, *names: str) -> _Section:
        unknown = set(self.values) - set(names)
        if unknown:
            raise ContractError(f"{self.where}: unknown lines {sorted(unknown)}; expected {sorted(names)}")
        return self

    def get(self, name: str) -> Any:  # noqa: ANN401
        if name not in self.values or self.values[name] is None:
            raise ContractError(f"{self.where}: '{name}' is missing")
        return self.values[name]

    def section(self, name: str) -> _Section:
        return _Section(self.get(name), f"{self.where}.{name}")

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str) or not value:
            raise ContractError(f"{self.where}.{name}: expected a text, got {value!r}")
        return value

    def choice(self, name: str, kind: type[Choice]) -> Choice:
        value = self.text(name)
        try:
            return kind(value)
        except ValueError as error:
            raise ContractError(
                f"{self.where}.{name}: expected one of {[str(c.value) for c in kind]}, got {value!r}"
            ) from error

    def number(self, name: str, *, positive: bool = True) -> float:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise ContractError(f"{self.where}.{name}: expected a finite number, got {value!r}")
        if positive and not value > 0.0:
            raise ContractError(f"{self.where}.{name}: expected more than 0, got {value}")
        return float(value)

    def count(self, name: str) -> int:
        value = self.number(name)
        if not value.is_integer():
            raise ContractError(f"{self.where}.{name}: expected a whole number, got {value}")
        return int(value)

    def vector(self, name: str, length: int, *, positive: bool = False) -> FloatArray:
        value = self.get(name)
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ContractError(f"{self.where}.{name}: expected {length} numbers, got {value!r}") from error
        if array.shape != (length,):
            raise ContractError(f"{self.where}.{name}: expected {length} numbers, got shape {array.shape}")
        if not np.isfinite(array).all() or (positive and not (array > 0.0).all()):
            raise ContractError(f"{self.where}.{name}: expected finite{' positive' if positive else ''} numbers")
        return frozen_array(array)

    def names(self, name: str) -> tuple[str, ...]:
        value = self.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            raise ContractError(f"{self.where}.{name}: expected a list of names, got {value!r}")
        if len(set(value)) != len(value):
            raise ContractError(f"{self.where}.{name}: a name stands twice in {value}")
        return tuple(value)


def load_contract(robot: str | Path) -> RobotContract:
    """Read the contract of a robot by name ("panda") or by the path of its YAML file.

    Raises:
        ContractError: when the file is absent, or a line is missing, unknown or invalid.
    """
    given = Path(robot)
    try:
        path = share_file(given if given.suffix in {".yaml", ".yml"} else Path("config/robots") / f"{robot}.yaml")
    except FileNotFoundError as error:
        raise ContractError(f"no robot contract '{robot}': {error}") from error
    return parse_contract(read_text(path, "robot contract"), where=str(path.name))


def parse_contract(text: str, where: str = "robot contract") -> RobotContract:
    """Read a contract from YAML text; see `load_contract`."""
    try:
        root = _Section(parse_yaml(text), where)
    except yaml.YAMLError as error:
        raise ContractError(f"{where}: not YAML: {error}") from error
    root.only("name", "urdf", "base_frame", "end_effector_frame", "joints", "cartesian", "gripper", "cameras",
              "controllers", "action")  # fmt: skip
    try:
        urdf = share_file(root.text("urdf"))
    except FileNotFoundError as error:
        raise ContractError(f"{where}.urdf: {error}") from error
    base_frame, action = root.text("base_frame"), ActionSpecification.from_dict(root.section("action").values)
    if action.frame != base_frame:
        raise ContractError(
            f"{where}.action.frame: got '{action.frame}', expected the base_frame, '{base_frame}': it has the axes"
        )
    return RobotContract(
        name=root.text("name"),
        urdf=urdf,
        base_frame=base_frame,
        end_effector_frame=root.text("end_effector_frame"),
        joints=_joints(root.section("joints")),
        cartesian=_cartesian(root.section("cartesian")),
        gripper=_gripper(root.section("gripper")),
        cameras=_cameras(root),
        controllers=_controllers(root.section("controllers")),
        action=action,
        text=text,
    )


def _joints(section: _Section) -> JointContract:
    section.only("names", "lower", "upper", "velocity", "acceleration", "jerk", "effort", "home")
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
    )
    if not (joints.lower < joints.upper).all():
        raise ContractError(f"{section.where}: every lower limit must be below its upper limit")
    if not ((joints.lower <= joints.home) & (joints.home <= joints.upper)).all():
        raise ContractError(f"{section.where}.home: lies outside the joint limits")
    return joints


def _cartesian(section: _Section) -> CartesianContract:
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


def _gripper(section: _Section) -> GripperContract:
    section.only("names", "min_opening", "max_opening", "closed", "open", "velocity", "force")
    gripper = GripperContract(
        names=section.names("names"),
        min_opening=section.number("min_opening", positive=False),
        max_opening=section.number("max_opening"),
        closed=section.number("closed", positive=False),
        open=section.number("open", positive=False),
        velocity=section.number("velocity"),
        force=section.number("force"),
    )
    if not 0.0 <= gripper.min_opening < gripper.max_opening:
        raise ContractError(f"{section.where}: expected 0 <= min_opening < max_opening")
    if gripper.closed == gripper.open:
        raise ContractError(f"{section.where}: closed and open are both {gripper.open}: the fingers would not move")
    return gripper


def _cameras(root: _Section) -> tuple[CameraContract, ...]:
    section = root.section("cameras")
    if not section.values:
        raise ContractError(f"{section.where}: at least one camera is needed")
    cameras = []
    for name in section.values:
        one = section.section(name).only("topic", "info_topic", "frame", "width", "height", "rate_hz",
                                         "policy_height", "policy_width")  # fmt: skip
        cameras.append(
            CameraContract(
                name=str(name),
                topic=one.text("topic"),
                info_topic=one.text("info_topic"),
                frame=one.text("frame"),
                width=one.count("width"),
                height=one.count("height"),
                rate_hz=one.number("rate_hz"),
                policy_height=one.count("policy_height"),
                policy_width=one.count("policy_width"),
            )
        )
    return tuple(cameras)


def _controllers(section: _Section) -> ControllerContract:
    section.only("arm_interface", "arm_topic", "gripper_interface", "gripper_topic", "joint_states_topic",
                 "command_timeout")  # fmt: skip
    return ControllerContract(
        arm_interface=section.choice("arm_interface", ArmInterface),
        arm_topic=section.text("arm_topic"),
        gripper_interface=section.choice("gripper_interface", GripperInterface),
        gripper_topic=section.text("gripper_topic"),
        joint_states_topic=section.text("joint_states_topic"),
        command_timeout=section.number("command_timeout"),
    )
