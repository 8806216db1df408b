"""The numbers that the safety layer works by, beside the limits of the robot contract: complete, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.safety.obstacles import Obstacle, parse_obstacles

SAFETY_FILE = "config/safety.yaml"

Section = TypeVar("Section")


@dataclass(frozen=True)
class TimingParameters:
    """Clocks and deadlines; s unless said otherwise. `config/safety.yaml` says what each is for."""

    rate_hz: float
    state_timeout: float
    chunk_timeout: float
    policy_slow: float
    policy_timeout: float
    inference_timeout: float
    observation_slow_age: float
    observation_hold_age: float
    future_tolerance: float
    exhausted_grace: float
    actuation_delay: float
    blend_time: float
    resume_states: int
    resume_chunks: int
    missed_ticks_slow: int
    missed_ticks_hold: int
    tick_budget: float

    @property
    def period(self) -> float:
        """Seconds between ticks."""
        return 1.0 / self.rate_hz

    def __post_init__(self) -> None:
        _require(10.0 <= self.rate_hz <= 1000.0, f"timing.rate_hz is {self.rate_hz}, expected 10 to 1000")
        _require(
            self.observation_slow_age < self.observation_hold_age,
            "timing.observation_slow_age must be below observation_hold_age",
        )
        _require(self.exhausted_grace <= 0.1, f"timing.exhausted_grace is {self.exhausted_grace}, expected at most 0.1")
        _require(self.missed_ticks_slow < self.missed_ticks_hold, "timing.missed_ticks_slow must be below _hold")
        _require(self.policy_slow < self.policy_timeout, "timing.policy_slow must be below policy_timeout")
        _require(
            self.tick_budget < self.period,
            f"timing.tick_budget is {self.tick_budget}, expected less than a tick ({self.period} s)",
        )


@dataclass(frozen=True)
class MotionParameters:
    """How the tool follows its plan, and what stops it; units in `config/safety.yaml`."""

    tracking_gain: float
    brake_share: float
    slow_speed: float
    workspace_tolerance: float
    joint_margin: float
    tracking_tolerance: float
    recoverable_violation: float
    arming_speed: float
    corrections_hold: int

    def __post_init__(self) -> None:
        _require(self.brake_share <= 1.0, f"motion.brake_share is {self.brake_share}, expected at most 1")
        _require(self.slow_speed <= 1.0, f"motion.slow_speed is {self.slow_speed}, expected at most 1")


@dataclass(frozen=True)
class KinematicsParameters:
    """Differential inverse kinematics; see `vla_ros.robot.differential_ik`."""

    damping: float
    singular_damping: float
    singular_value: float
    posture_gain: float
    iterations: int


@dataclass(frozen=True)
class GripperParameters:
    """Hysteresis of the gripper: `deadband` m, `reversal_time` s."""

    deadband: float
    reversal_time: float


@dataclass(frozen=True)
class TrustParameters:
    """What trust in a chunk means: refused below `hold`, slow below `slow`; 0 to 1."""

    hold: float
    slow: float

    def __post_init__(self) -> None:
        _require(self.hold < self.slow <= 1.0, f"trust: expected hold {self.hold} < slow {self.slow} <= 1")


@dataclass(frozen=True)
class CollisionParameters:
    """Distances, m, that the arm keeps from itself and from obstacles, and from which an approach is slowed."""

    enabled: bool
    self_distance: float
    obstacle_distance: float
    influence_distance: float


@dataclass(frozen=True)
class SafetyParameters:
    """All of it; `load_parameters` reads it from YAML."""

    timing: TimingParameters
    motion: MotionParameters
    kinematics: KinematicsParameters
    gripper: GripperParameters
    trust: TrustParameters
    collision: CollisionParameters
    obstacles: tuple[Obstacle, ...]

    @classmethod
    def load(cls, path: str | Path = SAFETY_FILE) -> SafetyParameters:
        """Read the parameters from a YAML file; see `parse_parameters`."""
        return load_parameters(path)


def load_parameters(path: str | Path = SAFETY_FILE) -> SafetyParameters:
    """Read the parameters from a YAML file.

    Raises:
        ContractError: when the file is absent, or a line is missing, unknown or invalid.
    """
    try:
        text = share_file(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ContractError(f"no safety parameters: {error}") from error
    return parse_parameters(text, Path(path).name)


def parse_parameters(text: str, where: str = "safety parameters") -> SafetyParameters:
    """Read the parameters from YAML text; see `load_parameters`."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ContractError(f"{where}: not YAML: {error}") from error
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


def _lines(content: Any, expected: set[str], where: str) -> Mapping[str, Any]:  # noqa: ANN401 (whatever YAML holds)
    if not isinstance(content, Mapping):
        raise ContractError(f"{where}: expected a mapping, got {type(content).__name__}")
    missing, unknown = expected - set(content), set(content) - expected
    if missing or unknown:
        raise ContractError(f"{where}: missing {sorted(missing)}, unknown {sorted(map(str, unknown))}")
    return content


def _section(kind: type[Section], content: Any, where: str) -> Section:  # noqa: ANN401
    """Fill a dataclass of numbers: each line a finite number above 0, whole where the field is an int."""
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
