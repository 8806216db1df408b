"""Checks whether a policy fits a robot, line by line, before anything moves: fits, converted, or does not fit.

A line that does not fit includes the YAML that would fix it, filled in as far as it is known. Only a person can decide
whether to apply it: it must be true of the robot. Cameras are matched by name, never by position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import yaml

from vla_ros.actions.groups import TOOL_FRAME, ActionGroup, Quantity
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import CheckpointError
from vla_ros.policies.fit import value_at
from vla_ros.processing.features import CameraFeature, Fit
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.sections.arm import ArmContract
from vla_ros.yaml_files import parse_yaml

UNKNOWN = "to be filled in"
"""Placeholder for a value that only the user knows."""


class Verdict(str, Enum):
    """Result of one line."""

    FITS = "fits"
    CONVERTED = "converted"
    UNKNOWN = "unknown"
    MISFIT = "misfit"


class Where(str, Enum):
    """File that a fix belongs in."""

    CONTRACT = "robot contract"
    POLICY = "policy file"
    SAFETY = "safety.yaml"


@dataclass(frozen=True)
class Line:
    """One property on which policy and robot must agree.

    Attributes:
        name: Name, such as `camera front` or `action arm/ee_delta rotation`.
        verdict: Result of the comparison.
        policy: Value of the policy.
        robot: Value of the robot.
        note: Why it does not fit, or how it is converted.
        where: File that `fix` belongs in.
        fix: Values by dotted key that would make it fit.
    """

    name: str
    verdict: Verdict
    policy: str
    robot: str
    note: str = ""
    where: Where = Where.CONTRACT
    fix: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The line as a sentence."""
        note = f" ({self.note})" if self.note else ""
        return f"{self.name}: trained with {self.policy}, the robot has {self.robot}{note}"


@dataclass(frozen=True)
class Needs:
    """Requirements that a policy states; None where it states nothing.

    Attributes:
        policy: Name in the report.
        action: Action space of its chunks.
        cameras: Cameras that it uses.
        state: Groups of its state columns.
        robot: Lines of the contract that it was trained for.
        statistics: "" if complete, else their fault; None for a policy that keeps its own.
        converts: Whether its columns are converted to the robot's action space; else they must be equal.
        scales: Whether it scales images to its own size itself, as the `fit` of a camera states.
    """

    policy: str
    action: ActionSpace
    cameras: tuple[CameraFeature, ...] | None = None
    state: tuple[ActionGroup, ...] | None = None
    robot: Mapping[str, Any] = field(default_factory=dict)
    statistics: str | None = None
    converts: bool = False
    scales: bool = True


@dataclass(frozen=True)
class Compatibility:
    """Compatibility report of a policy and a robot."""

    policy: str
    robot: str
    lines: tuple[Line, ...]

    @property
    def misfits(self) -> tuple[Line, ...]:
        """Lines that do not fit."""
        return tuple(line for line in self.lines if line.verdict is Verdict.MISFIT)

    def fixes(self) -> str:
        """Return the YAML that would make every line fit, file by file; "" if there is none."""
        found = []
        for where in Where:
            wanted: dict[str, Any] = {}
            for line in self.misfits:
                if line.where is where:
                    for dotted, value in line.fix.items():
                        _put(wanted, dotted.split("."), value)
            if wanted:
                if "arms" in wanted:
                    wanted["arms"] = [{"name": arm, **values} for arm, values in wanted["arms"].items()]
                found.append(f"# {where.value}, where it is true of this robot\n" + _yaml(wanted))
        return "\n".join(found)

    def require(self) -> None:
        """Raise unless every line fits.

        Raises:
            CheckpointError: with each misfit, and the YAML that would fix it.
        """
        if wrong := self.misfits:
            sentences = "; ".join(line.sentence for line in wrong)
            fixes = self.fixes()
            advice = f". Lines that would fix it:\n{fixes}" if fixes else ""
            raise CheckpointError(f"policy {self.policy} does not fit robot '{self.robot}': {sentences}{advice}")


def compare(needs: Needs, contract: RobotContract, further: Iterable[Line] = ()) -> Compatibility:
    """Compare a policy's needs with a robot's contract; `further` lines are appended to the report."""
    lines = [
        *_robot_lines(needs, contract),
        *_camera_lines(needs, contract),
        *_state_lines(needs, contract),
        *_action_lines(needs, contract),
        *_statistics_lines(needs),
        *further,
    ]
    return Compatibility(needs.policy, contract.name, tuple(lines))


def commanded_line(commanded: RobotContract, contract: RobotContract) -> Line:
    """Return the line on a robot that is commanded as its policy does, and otherwise than its contract says."""
    policy, robot = (", ".join(group.name for group in one.action.groups) for one in (commanded, contract))
    note = "demo, record, eval and serve take the policy's actions in place of the contract's"
    return Line("action", Verdict.CONVERTED, policy, robot, note)


def latency_line(taken: Sequence[float], contract: RobotContract, longest: float) -> Line:
    """Return the line on measured inference times.

    Args:
        taken: Duration of each inference, s; empty if none was measured.
        contract: Contract of the robot.
        longest: Time that the safety layer waits for one inference, s.
    """
    period, horizon = contract.action.period, contract.action.horizon
    robot = f"rows of {1e3 * period:.0f} ms, {horizon * period:.1f} s a chunk, at most {1e3 * longest:.0f} ms"
    if not taken:
        return Line("latency", Verdict.UNKNOWN, "none measured", robot)
    ordered = sorted(taken)
    middle, worst = ordered[len(ordered) // 2], ordered[-1]
    policy = f"{1e3 * middle:.0f} ms, at most {1e3 * worst:.0f} ms, in {len(ordered)} inferences on this machine"
    if not worst <= longest:
        fix = {"timing.inference_timeout": round(1.2 * worst, 2)}
        note = "the safety layer holds the arm when an inference takes longer"
        return Line("latency", Verdict.MISFIT, policy, robot, note, Where.SAFETY, fix)
    if not worst < horizon * period:
        note = "a chunk has run out before the next one is there"
        return Line("latency", Verdict.MISFIT, policy, robot, note, Where.CONTRACT, {"action.horizon": UNKNOWN})
    note = "" if worst <= period else "longer than a row: chunks overlap (docs/policies.md)"
    return Line("latency", Verdict.FITS, policy, robot, note)


def _robot_lines(needs: Needs, contract: RobotContract) -> list[Line]:
    now, cameras = parse_yaml(contract.text), {camera.name for camera in contract.cameras}
    found = []
    for name, trained in needs.robot.items():
        if name.startswith("cameras.") and name.split(".")[1] not in cameras:
            continue  # the whole camera is missing, which its own line reports
        has = value_at(now, name)
        verdict = Verdict.FITS if trained == has else Verdict.MISFIT
        found.append(Line(name, verdict, repr(trained), repr(has), fix={name: trained}))
    return found


def _camera_lines(needs: Needs, contract: RobotContract) -> list[Line]:
    if needs.cameras is None:
        return [Line("cameras", Verdict.UNKNOWN, "not said", str([one.name for one in contract.cameras]))]
    return [_camera_line(one, needs, contract) for one in needs.cameras]


def _camera_line(one: CameraFeature, needs: Needs, contract: RobotContract) -> Line:
    name, size = f"camera {one.source}", f"{one.height} x {one.width}"
    cameras = {camera.name: camera for camera in contract.cameras}
    policy = f"{size}, {one.fit.value}"
    if one.source not in cameras:
        lines: dict[str, Any] = dict.fromkeys(("topic", "info_topic", "frame", "width", "height"), UNKNOWN)
        lines |= {"rate_hz": contract.action.rate_hz, "policy_height": one.height, "policy_width": one.width}
        fix = {f"cameras.{one.source}.{line}": value for line, value in lines.items()}
        note = "cameras are matched by name, never by their order"
        return Line(name, Verdict.MISFIT, policy, f"cameras {list(cameras)}", note, fix=fix)
    has = cameras[one.source]
    robot = f"{has.policy_height} x {has.policy_width}"
    if (has.policy_height, has.policy_width) == (one.height, one.width):
        return Line(name, Verdict.FITS, policy, robot)
    fix = {f"cameras.{one.source}.policy_height": one.height, f"cameras.{one.source}.policy_width": one.width}
    same_shape = has.policy_height * one.width == has.policy_width * one.height
    if not needs.scales or (one.fit is Fit.SHRINK and not (same_shape and has.policy_height >= one.height)):
        note = "images of another size or shape would be others than it was trained with"
        return Line(name, Verdict.MISFIT, policy, robot, note, fix=fix)
    return Line(name, Verdict.CONVERTED, policy, robot, f"images are scaled ({one.fit.value})")


def _state_lines(needs: Needs, contract: RobotContract) -> list[Line]:
    if needs.state is None:
        return [Line("state", Verdict.UNKNOWN, "not said", "joints, tool and gripper as they are measured")]
    arms, own = list(dict.fromkeys(group.arm for group in needs.state)), {arm.name: arm for arm in contract.arms}
    found = []
    if len(own) == 1 and len(arms) == 1:
        own = dict.fromkeys(arms, contract.arms[0])  # the only arm is meant, whatever its name
    elif strange := [arm for arm in arms if arm not in own]:
        note = f"nothing is observed of {strange}"
        found.append(Line("state arms", Verdict.MISFIT, f"arms {arms}", f"arms {[*own]}", note))
    return found + [_state_line(group, own[group.arm], contract) for group in needs.state if group.arm in own]


def _state_line(group: ActionGroup, arm: ArmContract, contract: RobotContract) -> Line:
    name, policy = f"state {group.name}", _described(group)
    if group.quantity.of_joints:
        count = arm.joints.count
        verdict = Verdict.FITS if group.joints == count else Verdict.MISFIT
        return Line(name, verdict, policy, f"{count} joints {list(arm.joints.names)}", where=Where.POLICY)
    if group.quantity is Quantity.GRIPPER:
        if arm.gripper.names:
            return Line(name, Verdict.FITS, policy, "a gripper")
        return Line(name, Verdict.CONVERTED, policy, "no gripper", "its opening is 0")
    if len(contract.arms) > 1:
        return Line(name, Verdict.MISFIT, policy, "no pose", "the tools of several arms are not observed", Where.POLICY)
    robot = f"frame {contract.base_frame}"
    if group.frame in (TOOL_FRAME, contract.base_frame):
        return Line(name, Verdict.FITS, policy, robot)
    return Line(name, Verdict.MISFIT, policy, robot, "poses are measured in the base frame", Where.POLICY)


def _action_lines(needs: Needs, contract: RobotContract) -> list[Line]:
    theirs, mine = needs.action, contract.action
    if list(theirs.arms) != list(mine.arms) and (len(theirs.arms) != 1 or len(mine.arms) != 1 or not needs.converts):
        return [Line("action arms", Verdict.MISFIT, f"arms {list(theirs.arms)}", f"arms {list(mine.arms)}")]
    found = []
    for their_arm, arm in zip(theirs.arms, mine.arms, strict=True):
        found += _motion_lines(theirs.motion(their_arm), mine.motion(arm), needs, contract.led_by(arm))
        found += _gripper_lines(theirs.gripper(their_arm), mine.gripper(arm), needs)
    return found + _time_lines(theirs, mine)


def _motion_lines(theirs: ActionGroup, mine: ActionGroup, needs: Needs, contract: RobotContract) -> list[Line]:
    name, fix = f"action {theirs.name}", {"action.groups": [group.to_dict() for group in needs.action.groups]}
    if theirs.quantity.of_joints is not mine.quantity.of_joints:
        note = "joints are no tool"
        return [Line(name, Verdict.MISFIT, _described(theirs), _described(mine), note, fix=fix)]
    if theirs.quantity.of_joints and theirs.joints != mine.joints:
        joints = f"{mine.joints} joints {list(contract.leading.joints.names)}"
        return [Line(name, Verdict.MISFIT, f"{theirs.joints} joints", joints, "the arms differ", where=Where.POLICY)]
    found = []
    if theirs.frame not in ("", TOOL_FRAME, contract.base_frame):
        lines = {"base_frame": theirs.frame}
        note = "columns are in a frame that the robot does not command in"
        found.append(Line(f"{name} frame", Verdict.MISFIT, theirs.frame, contract.base_frame, note, fix=lines))
    for what in ("quantity", "reference", "frame", "rotation", "euler_order", "unit", "low", "high"):
        has, robot = getattr(theirs, what), getattr(mine, what)
        if what == "frame" and found:
            continue
        if has == robot:
            if what in ("quantity", "reference", "frame", "rotation") and (has or robot):
                found.append(Line(f"{name} {what}", Verdict.FITS, _text(has), _text(robot)))
            continue
        verdict = Verdict.CONVERTED if needs.converts else Verdict.MISFIT
        note = "" if needs.converts else "columns of a checkpoint have to be the contract's own"
        found.append(Line(f"{name} {what}", verdict, _text(has), _text(robot), note, fix=fix))
    return found


def _gripper_lines(theirs: ActionGroup | None, mine: ActionGroup | None, needs: Needs) -> list[Line]:
    if theirs is None and mine is None:
        return []
    fix = {"action.groups": [group.to_dict() for group in needs.action.groups]}
    if theirs is None or mine is None:
        has, robot = ("none" if one is None else one.gripper.value for one in (theirs, mine))
        note = "only one of them commands a gripper"
        return [Line("action gripper", Verdict.MISFIT, has, robot, note, fix=fix)]
    name = f"action {theirs.name}"
    if theirs.gripper is mine.gripper:
        return [Line(f"{name} sense", Verdict.FITS, theirs.gripper.value, mine.gripper.value)]
    verdict = Verdict.CONVERTED if needs.converts else Verdict.MISFIT
    note = "" if needs.converts else "it would open where it is meant to close, or by another amount"
    return [Line(f"{name} sense", verdict, theirs.gripper.value, mine.gripper.value, note, fix=fix)]


def _time_lines(theirs: ActionSpace, mine: ActionSpace) -> list[Line]:
    same = abs(theirs.rate_hz - mine.rate_hz) <= 1e-6 * mine.rate_hz
    rate = Line(
        "action rate_hz",
        Verdict.FITS if same else Verdict.CONVERTED,
        f"{theirs.rate_hz:g}",
        f"{mine.rate_hz:g}",
        "" if same else "chunks are resampled",
    )
    lasts, needed = theirs.horizon * theirs.period, mine.period
    policy, robot = f"{theirs.horizon} rows, {lasts:.2f} s", f"{mine.horizon} rows, {mine.horizon * mine.period:.2f} s"
    if lasts < needed - 1e-9:
        note = "a chunk is over before one row of the robot's is"
        return [
            rate,
            Line("action horizon", Verdict.MISFIT, policy, robot, note, fix={"action.rate_hz": theirs.rate_hz}),
        ]
    longer = lasts > mine.horizon * mine.period + 1e-9
    verdict = Verdict.CONVERTED if longer else Verdict.FITS
    return [rate, Line("action horizon", verdict, policy, robot, "later rows are left out" if longer else "")]


def _statistics_lines(needs: Needs) -> list[Line]:
    if needs.statistics is None:
        return [Line("statistics", Verdict.UNKNOWN, "its own", "none needed")]
    if not needs.statistics:
        return [Line("statistics", Verdict.FITS, "complete", "none needed")]
    note = "train it again, or bring back the whole folder: numbers that were never measured cannot be filled in"
    return [Line("statistics", Verdict.MISFIT, needs.statistics, "none of its own", note)]


def _described(group: ActionGroup) -> str:
    """Return the lines of a group, except its limits, as text."""
    return ", ".join(f"{name} {value}" for name, value in group.to_dict().items() if name not in ("low", "high"))


def _text(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def _put(values: dict[str, Any], path: Sequence[str], value: object) -> None:
    for name in path[:-1]:
        values = values.setdefault(name, {})
    values[path[-1]] = value


def _yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None, width=1000))
