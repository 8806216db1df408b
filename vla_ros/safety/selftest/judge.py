"""Fault runner: injects each fault into its own layer, and checks the result independently of the filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pinocchio

from vla_ros.errors import ContractError
from vla_ros.robot.contract import ArmContract, RobotContract
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.query_time import require_timely_distances
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.safety.selftest.trial import MOVING, RUN, Fault, FaultRow, Trial
from vla_ros.types import FloatArray

REST_TICKS = 40
"""Ticks within which an arm that must stop is at rest: 29 for 2.175 rad/s at 7.5 rad/s^2, plus jerk and delay."""

NOT_APPLICABLE = "does not apply"
"""Outcome of a fault that cannot occur on the robot."""

ROUNDING = 1e-6
WORKSPACE_SLACK = 1e-3
"""Tolerance of the tool beyond a face, m."""

RECOVERY_SLACK = 1e-3
"""Tolerance of a joint on its way back into its limits, rad."""

SPEED_SLACK = 0.1
"""Tolerated excess of the tool speed, as a fraction of its limit: the joints take some ticks to slow down while the arm
still extends, and a stop is planned per joint."""


def run_fault_rows(
    contract: RobotContract,
    parameters: SafetyParameters,
    faults: Sequence[Fault],
    tell: Callable[[FaultRow], object] = lambda row: None,
) -> list[FaultRow]:
    """Inject each fault into its own layer, in a dry run, and return the results.

    Args:
        contract: Contract of the robot to be armed.
        parameters: Parameters to arm it with.
        faults: Faults to inject.
        tell: Callback for each row when it is complete.

    Raises:
        VlaError: when contract or parameters are invalid, before any fault is tried: that is not a missed fault.
    """
    require_timely_distances(contract, parameters)
    _require_start(Shadow(contract, parameters))
    rows = []
    for fault in faults:
        rows.append(_try(fault, contract, parameters))
        tell(rows[-1])
    return rows


def _require_start(shadow: Shadow) -> None:
    """Check that the tools are inside their workspaces at home.

    Raises:
        ContractError: naming position and workspace.
    """
    placements = shadow.kinematics.placements(shadow.contract.joints.home)
    for arm, placement in zip(shadow.contract.arms, placements, strict=True):
        tool, box = np.asarray(placement.translation), arm.cartesian
        if ((box.workspace_lower <= tool) & (tool <= box.workspace_upper)).all():
            continue
        places = ", ".join(f"{value:.3f}" for value in tool)
        raise ContractError(
            f"joints.home puts the tool at [{places}] m, outside cartesian.workspace, {box.workspace_lower.tolist()} "
            f"to {box.workspace_upper.tolist()}: change one of them"
        )


def _try(fault: Fault, contract: RobotContract, parameters: SafetyParameters) -> FaultRow:
    led = [contract.led_by(arm.name) for arm in contract.arms]
    led = [one for one in led if fault.applies(one)]
    if not led:
        return FaultRow(fault.name, fault.expected, NOT_APPLICABLE, True, "This robot has nothing that it is about.")
    try:
        with np.errstate(all="ignore"):  # 1e300 squared overflows, as it should
            for one in led:  # report the first arm that misses it, else the last
                row = _judge(fault, one, parameters)
                if not row.stopped:
                    return row
            return row
    except Exception as error:  # a layer that raises has let the fault through
        return FaultRow(fault.name, fault.expected, f"raised {type(error).__name__}", False, f"It raised: {error}")


def _judge(fault: Fault, contract: RobotContract, parameters: SafetyParameters) -> FaultRow:
    pace = fault.pace(contract)
    contract = contract if fault.adapt is None else fault.adapt(contract)
    parameters = parameters if fault.arrange is None else fault.arrange(parameters, contract)
    shadow = Shadow(contract, parameters, None if fault.posture is None else fault.posture(contract))
    if fault.moving:
        shadow.move()
    trial = Trial(shadow, pace)
    if fault.moving:
        trial.require(shadow.supervisor.state is RUN and trial.moves, "the arm was not under way before the fault")
    fault.play(trial)
    state, said = shadow.supervisor.state, trial.reasons
    trial.require(state in fault.state, f"the state is {state.name}")
    fitting = [reason.label for reason in fault.reason if reason.label in said]
    trial.require(bool(fitting), f"no such reason was given, only {', '.join(sorted(said)) or 'none'}")
    took = None
    if not fault.state & MOVING:
        took = _ticks_to_rest(trial)
        trial.require(took is not None, f"the arm still moves after {REST_TICKS} ticks")
    if trial.check_limits:
        trial.complaints += broken_limits(shadow)
    reason = shadow.supervisor.reason
    if fitting:
        reason = next(one for one in Reason if one.label == min(fitting))
    sentence = "; ".join(trial.complaints)
    if not sentence:
        sentence = reason.sentence + (f" At rest within {1e3 * took * shadow.period:.0f} ms." if took else "")
    return FaultRow(fault.name, fault.expected, f"{state.name}: {reason.label}", not trial.complaints, sentence)


def _ticks_to_rest(trial: Trial) -> int | None:
    """Return the ticks until the commands stand still, with valid states and no policy; None if they do not."""
    for count in range(trial.shadow.ticks(REST_TICKS)):
        trial.tick()
        if not trial.moves or trial.decisions[-1].joint_positions is None:
            return count
    return None


def broken_limits(shadow: Shadow) -> list[str]:
    """Check all commands of a dry run by finite differences, and the position and speed of each tool."""
    joints, arms = shadow.contract.joints, shadow.contract.arms
    q, openings = np.array(shadow.commands), np.array(shadow.all_openings)
    if not (np.isfinite(q).all() and np.isfinite(openings).all()):
        return ["a command is not finite"]
    failed = []
    still = np.vstack([np.tile(q[0], (3, 1)), q])  # it was at rest before
    for name, order, limit in (
        ("velocity", 1, joints.velocity),
        ("acceleration", 2, joints.acceleration),
        ("jerk", 3, joints.jerk),
    ):
        share = float((np.abs(np.diff(still, n=order, axis=0)) / shadow.period**order / limit).max())
        if not share <= 1.0 + ROUNDING:
            failed.append(f"joint {name} reached {share:.3f} of its limit")
    outside = np.maximum(np.maximum(joints.lower - q, q - joints.upper), 0.0)
    if not (outside <= outside[0] + np.where(outside[0] > 0.0, RECOVERY_SLACK, 0.0)).all():
        failed.append(f"a joint left its limits by {float(outside.max()):.4f} rad")
    rows = [shadow.kinematics.placements(row) for row in q]
    for number, arm in enumerate(arms):
        failed += _broken_by(arm, [row[number] for row in rows], openings[:, number], shadow.period)
    return failed


def _broken_by(arm: ArmContract, places: Sequence[pinocchio.SE3], openings: FloatArray, period: float) -> list[str]:
    """Check one arm's tool position and speed at each command, and its gripper openings (k,) m."""
    box, gripper = arm.cartesian, arm.gripper
    failed = _tool_too_fast(arm, places, period)
    tools = np.array([place.translation for place in places])
    beyond = np.maximum(np.maximum(box.workspace_lower - tools, tools - box.workspace_upper), 0.0)
    if not (beyond <= beyond[0] + WORKSPACE_SLACK).all():
        failed.append(f"the tool left the workspace by {1e3 * float(beyond.max()):.1f} mm")
    if not ((openings >= gripper.min_opening) & (openings <= gripper.max_opening)).all():
        failed.append("the gripper left its range")
    if not (np.abs(np.diff(openings)) <= gripper.velocity * period + ROUNDING).all():
        failed.append("the gripper was faster than it can be")
    return failed


def _tool_too_fast(arm: ArmContract, places: Sequence[pinocchio.SE3], period: float) -> list[str]:
    """Check the tool speed between consecutive commands."""
    box, moves = arm.cartesian, list(pairwise(places))
    ways = [float(np.linalg.norm(after.translation - before.translation)) for before, after in moves]
    turns = [float(np.linalg.norm(pinocchio.log3(after.rotation @ before.rotation.T))) for before, after in moves]
    failed = []
    for name, changes, limit in (("linear", ways, box.linear_velocity), ("angular", turns, box.angular_velocity)):
        share = max(changes, default=0.0) / period / limit
        if not share <= 1.0 + SPEED_SLACK:
            failed.append(
                f"the tool's {name} velocity reached {share:.3f} of its limit: the joints brake more slowly than "
                f"cartesian.{name}_acceleration says; lower that, or raise joints.acceleration"
            )
    return failed
