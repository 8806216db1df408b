"""Parameters of the safety layer besides the limits of the robot contract; incomplete files are rejected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.safety.motion.obstacles import Obstacle, parse_obstacles
from vla_ros.yaml_files import parse_yaml, read_text, why_unusable

SAFETY_FILE = "config/safety.yaml"

SHORTEST_INSTRUCTION_TIMEOUT = 0.1
"""Shortest timeout of the instruction node, s: two of its heartbeats."""

LONGEST_SLEEP = 1.0
"""Longest gap of the control thread before the arm holds, s."""

Section = TypeVar("Section")


def _up_to(most: float, because: str) -> Any:  # noqa: ANN401 (a field of any number)
    """Return a field with the range (0, `most`]; `because` says why more would defeat its purpose."""
    return field(metadata={"most": most, "because": because})


@dataclass(frozen=True)
class TimingParameters:
    """Clocks and deadlines, s unless noted; `config/safety.yaml` documents each.

    The upper bounds are several times the shipped values: room for a slow machine or network, but not for a watchdog
    that never triggers.
    """

    rate_hz: float
    state_timeout: float = _up_to(0.5, "the arm moves on without knowing where it is: others wait 40 to 250 ms")
    chunk_timeout: float = _up_to(5.0, "no plan is good for longer")
    policy_slow: float = _up_to(1.0, "a heartbeat comes every 0.02 s; a network that holds it up for longer has parted")
    policy_timeout: float = _up_to(1.0, "the plan of a policy that is dead is followed until then")
    inference_timeout: float = _up_to(5.0, "what it computes on is too old by then")
    instruction_timeout: float = _up_to(2.0, "the arm goes on with a task that nobody can change until then")
    observation_slow_age: float = _up_to(5.0, "the arm moves by what was seen so long ago")
    observation_hold_age: float = _up_to(5.0, "the arm moves by what was seen so long ago")
    future_tolerance: float = _up_to(0.2, "chunks are paired with joint states by it: at 0.5 m/s it is 0.1 m")
    exhausted_grace: float = _up_to(0.1, "there is no plan any more")
    actuation_delay: float = _up_to(0.5, "the plan is read so far ahead of what was measured")
    blend_time: float = _up_to(1.0, "the plan of before is followed for so long in part")
    resume_states: int = _up_to(1000, "joint states; at 100 Hz it is 10 s")
    resume_chunks: int = _up_to(100, "chunks; at 10 Hz it is 10 s")
    missed_ticks_slow: int = _up_to(1000, "ticks; at 1 kHz it is 1 s")
    missed_ticks_hold: int = _up_to(1000, "ticks; at 1 kHz it is 1 s")
    tick_budget: float = _up_to(0.1, "s; the slowest tick is that long")

    @property
    def period(self) -> float:
        """Tick period, s."""
        return 1.0 / self.rate_hz

    def __post_init__(self) -> None:
        _require(10.0 <= self.rate_hz <= 1000.0, f"timing.rate_hz is {self.rate_hz}, expected 10 to 1000")
        _check_bounds(self, "timing")
        for lower, upper in (
            ("observation_slow_age", "observation_hold_age"),
            ("missed_ticks_slow", "missed_ticks_hold"),
            ("policy_slow", "policy_timeout"),
            ("policy_timeout", "inference_timeout"),  # a policy that is not received counts as stuck after the latter
        ):
            slow, hold = getattr(self, lower), getattr(self, upper)
            _require(slow < hold, f"timing.{lower} is {slow}, expected less than {upper} ({hold})")
        _require(
            self.instruction_timeout >= SHORTEST_INSTRUCTION_TIMEOUT,
            f"timing.instruction_timeout is {self.instruction_timeout}, expected at least "
            f"{SHORTEST_INSTRUCTION_TIMEOUT}: a heartbeat of the instruction node comes every 0.04 s",
        )
        most = int(LONGEST_SLEEP * self.rate_hz)
        _require(
            self.missed_ticks_hold <= most,
            f"timing.missed_ticks_hold is {self.missed_ticks_hold}, expected at most {most}: {LONGEST_SLEEP} s",
        )
        _require(
            self.tick_budget < self.period,
            f"timing.tick_budget is {self.tick_budget}, expected less than a tick ({self.period} s)",
        )


@dataclass(frozen=True)
class MotionParameters:
    """Tracking of the plan, and what stops it; units in `config/safety.yaml`."""

    tracking_gain: float = _up_to(100.0, "1/s; at 100 Hz the tool would be there in one tick")
    brake_share: float = _up_to(1.0, "a share: the tool brakes with no more than its acceleration")
    slow_speed: float = _up_to(1.0, "a share: slow is not faster than fast")
    workspace_tolerance: float = _up_to(0.01, "m beyond a face; what stands there is near")
    joint_margin: float = _up_to(0.5, "rad from either limit: little is left of a joint's travel")
    follow_window: float = _up_to(0.5, "s in which an arm answers a command; nothing is moved by one that is slower")
    follow_tolerance: float = _up_to(0.2, "rad off its recent commands: the arm is moved blindly until then")
    tracking_tolerance: float = _up_to(0.5, "rad off the command: half a metre at the tool of a long arm")
    recoverable_violation: float = _up_to(0.3, "rad outside of a limit is more than an arm sags there: it was forced")
    arming_speed: float = _up_to(0.2, "rad/s is no noise: the arm moves, and is commanded as if it stood")
    corrections_hold: int = _up_to(1000, "ticks; at 100 Hz the arm stands for 10 s and is called running")

    def __post_init__(self) -> None:
        _check_bounds(self, "motion")
        _require(
            self.follow_tolerance <= self.tracking_tolerance,
            f"motion.follow_tolerance is {self.follow_tolerance}, expected at most tracking_tolerance "
            f"({self.tracking_tolerance})",
        )


@dataclass(frozen=True)
class KinematicsParameters:
    """Differential inverse kinematics; see `vla_ros.robot.differential_ik`."""

    damping: float = _up_to(0.5, "the tool hardly follows any more")
    singular_damping: float = _up_to(1.0, "the tool stands still near a singularity")
    singular_value: float = _up_to(0.5, "no posture is far from a singularity by that measure")
    posture_gain: float = _up_to(10.0, "1/s; the pull towards home is at its greatest speed within 0.03 rad")
    iterations: int = _up_to(1000, "they do not fit into a tick")

    def __post_init__(self) -> None:
        _check_bounds(self, "kinematics")


@dataclass(frozen=True)
class GripperParameters:
    """Gripper hysteresis: `deadband` m, `reversal_time` s."""

    deadband: float = _up_to(0.02, "m; the fingers miss what they are to hold, and may jump so far when armed")
    reversal_time: float = _up_to(5.0, "s; the fingers do not let go when they are told to")

    def __post_init__(self) -> None:
        _check_bounds(self, "gripper")


@dataclass(frozen=True)
class TrustParameters:
    """Confidence thresholds of a chunk, 0 to 1: rejected below `hold`, slow below `slow`."""

    hold: float
    slow: float

    def __post_init__(self) -> None:
        _require(self.hold < self.slow <= 1.0, f"trust: expected hold {self.hold} < slow {self.slow} <= 1")


@dataclass(frozen=True)
class CollisionParameters:
    """Distances, m, to keep from the arm itself and from obstacles, and from which approaches are slowed down."""

    enabled: bool
    self_distance: float = _up_to(0.2, "m between parts: no arm can fold so little")
    obstacle_distance: float = _up_to(0.5, "m from what is to be reached for")
    influence_distance: float = _up_to(2.0, "m; further than the arms reach that this is made for")

    def __post_init__(self) -> None:
        _check_bounds(self, "collision")


@dataclass(frozen=True)
class SafetyParameters:
    """All parameters of the safety layer; `load_parameters` reads them from YAML."""

    timing: TimingParameters
    motion: MotionParameters
    kinematics: KinematicsParameters
    gripper: GripperParameters
    trust: TrustParameters
    collision: CollisionParameters
    obstacles: tuple[Obstacle, ...]

    @classmethod
    def load(cls, path: str | Path = SAFETY_FILE) -> SafetyParameters:
        """Load the parameters from a YAML file; see `load_parameters`."""
        return load_parameters(path)


def load_parameters(path: str | Path = SAFETY_FILE) -> SafetyParameters:
    """Load the parameters from a YAML file.

    Raises:
        ContractError: when the file does not exist, or a field is missing, unknown or invalid.
    """
    try:
        text = read_text(share_file(path), "safety parameters")
    except FileNotFoundError as error:
        raise ContractError(f"no safety parameters: {error}") from error
    return parse_parameters(text, Path(path).name)


def parse_parameters(text: str, where: str = "safety parameters") -> SafetyParameters:
    """Parse the parameters from YAML text; see `load_parameters`."""
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ContractError(f"{where}: {why_unusable(error)}") from error
    lines = _lines(content, {field.name for field in fields(SafetyParameters)}, where)
    return SafetyParameters(
        timing=_section(TimingParameters, lines["timing"], f"{where}: timing"),
        motion=_section(MotionParameters, lines["motion"], f"{where}: motion"),
        kinematics=_section(KinematicsParameters, lines["kinematics"], f"{where}: kinematics"),
        gripper=_section(GripperParameters, lines["gripper"], f"{where}: gripper"),
        trust=_section(TrustParameters, lines["trust"], f"{where}: trust"),
        collision=_section(CollisionParameters, lines["collision"], f"{where}: collision"),
        obstacles=parse_obstacles(lines["obstacles"], f"{where}: obstacles"),
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(f"safety parameters: {message}")


def _check_bounds(section: Any, name: str) -> None:  # noqa: ANN401 (a dataclass of this module)
    for one in fields(section):
        if "most" in one.metadata:
            value, most = getattr(section, one.name), one.metadata["most"]
            _require(
                0.0 < value <= most,
                f"{name}.{one.name} is {value}, expected above 0 and at most {most} ({one.metadata['because']})",
            )


def _lines(content: Any, expected: set[str], where: str) -> Mapping[str, Any]:  # noqa: ANN401 (whatever YAML holds)
    if not isinstance(content, Mapping):
        raise ContractError(f"{where}: expected a mapping, got {type(content).__name__}")
    missing, unknown = expected - set(content), set(content) - expected
    if missing or unknown:
        raise ContractError(f"{where}: missing {sorted(missing)}, unknown {sorted(map(str, unknown))}")
    return content


def _section(kind: type[Section], content: Any, where: str) -> Section:  # noqa: ANN401
    """Fill a dataclass of numbers: each value finite and above 0, integer where the field is an int."""
    types = {field.name: str(field.type) for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, float | int | bool] = {}
    for name, value in _lines(content, set(types), where).items():
        if types[name] == "bool":
            if not isinstance(value, bool):
                raise ContractError(f"{where}.{name}: expected true or false, got {value!r}")
            values[name] = value
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < np.inf:
            raise ContractError(f"{where}.{name}: expected a finite number above 0, got {value!r}")
        if types[name] == "int" and value != int(value):
            raise ContractError(f"{where}.{name}: expected a whole number, got {value!r}")
        values[name] = int(value) if types[name] == "int" else float(value)
    return kind(**values)
