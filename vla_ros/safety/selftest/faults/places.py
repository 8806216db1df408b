"""Target faults of plans: out of the workspace, into the table, an obstacle or the arm itself, out of reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.obstacles import Obstacle, Shape
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.pace import arm_pace_of, pace_of
from vla_ros.safety.selftest.shadow import TABLE_TICK
from vla_ros.safety.selftest.trial import Fault, Play, Trial, commands_tool, corrected
from vla_ros.types import FloatArray, frozen_array

OUTSIDE = frozenset({Reason.WORKSPACE, Reason.OBSTACLE, Reason.SELF_COLLISION, Reason.JOINT_POSITION})
"""Accepted reasons: the most serious one is reported, which outside the workspace may be the arm or the table."""


FINGERS_BEYOND_TOOL = 0.010
"""Reach of the fingertips beyond the tool frame of the shipped robot, m."""

POSTS = {
    Shape.BOX: (0.1, 0.1, 0.3),
    Shape.SPHERE: (0.08,),
    Shape.CYLINDER: (0.05, 0.3),
    Shape.CAPSULE: (0.05, 0.2),
}
"""Sizes of the obstacles, m."""

ASIDE = 0.3
"""Lateral distance of the obstacle from the tool at home, m."""

INSIDE = 0.02
"""Offset from the arm's vertical axis, m: on the axis, no side would be nearer."""

SLICE = 20
"""Table ticks by which an unfinished motion is extended."""

ARRIVED = 2e-3
"""Tool displacement per slice, m, to scale, that counts as none: the tool creeps along obstacles."""

SETTLED = 2
"""Number of consecutive slices without displacement that end a motion: more would show the same."""

HELD_BACK = frozenset(reason.label for reason in (*OUTSIDE, Reason.RESULT_INVALID, Reason.SINGULARITY))
"""Reasons that hold an arm back: without one of them, an arm that hardly moves may be rotating, or just slow."""

REACHABLE = 0.8
"""Fraction of the tool's speed limit that a plan asks for."""

Arrange = Callable[[SafetyParameters, RobotContract], SafetyParameters]


def towards(offset: tuple[float, float, float], ticks: int = 60) -> Play:
    """Plan at a feasible speed to a target `offset` m, to scale, from the current tool position."""

    def play(trial: Trial) -> None:
        goal = trial.shadow.pose().position + trial.pace.scale * np.asarray(offset)
        _follow_to(trial, goal, trial.pace.ticks(ticks))
        for _ in range(3 * ticks // SLICE):  # at high rates the arm takes longer: extend while it approaches
            before = float(np.linalg.norm(goal - trial.shadow.pose().position))
            if not trial.moves or before < ARRIVED:
                break
            _follow_to(trial, goal, trial.pace.ticks(SLICE))
            if float(np.linalg.norm(goal - trial.shadow.pose().position)) > before - ARRIVED * trial.pace.scale:
                break

    return play


def _follow_to(trial: Trial, goal: FloatArray, ticks: int) -> None:
    """Ask for `goal` for `ticks` table ticks, or until the tool is held back and at rest for `SETTLED` slices."""
    shadow, action = trial.shadow, trial.shadow.contract.action
    longest = REACHABLE * shadow.contract.cartesian.linear_velocity * action.period

    def rows(_: int) -> FloatArray:
        way = goal - shadow.pose().position
        step = way * min(1.0, longest / max(float(np.linalg.norm(way)), 1e-9))
        count = np.arange(1, action.horizon + 1)[:, None]
        short = np.linalg.norm(count * step, axis=1)[:, None] < np.linalg.norm(way)
        places: FloatArray = np.where(short, shadow.pose().position + count * step, goal)
        return places

    still = 0
    for first in range(0, ticks, SLICE):
        before = shadow.pose().position
        trial.follow(rows, min(SLICE, ticks - first))
        moved = float(np.linalg.norm(shadow.pose().position - before))
        still = still + 1 if moved < ARRIVED * trial.pace.scale and trial.reasons & HELD_BACK else 0
        if still == SETTLED:
            break


def _near_face(axis: int, upper: bool) -> Callable[[RobotContract], RobotContract]:
    """Move one face of the workspace to 5 cm, to scale, from the tool at home, so that the distance is short."""

    def adapt(contract: RobotContract) -> RobotContract:
        box, tool = contract.cartesian, Kinematics(contract).forward(contract.joints.home).position
        scale = pace_of(contract).scale
        lower, higher = box.workspace_lower.copy(), box.workspace_upper.copy()
        if upper:
            higher[axis] = tool[axis] + scale * (0.15 if axis == 1 else 0.05)
        else:
            lower[axis] = tool[axis] - scale * 0.05
        return replace(contract, cartesian=replace(box, workspace_lower=lower, workspace_upper=higher))

    return adapt


def wide(contract: RobotContract) -> RobotContract:
    """Return a contract with an unlimited workspace, so that other checks must act."""
    everywhere = np.full(3, 3.0)
    cartesian = replace(contract.cartesian, workspace_lower=-everywhere, workspace_upper=everywhere)
    return replace(contract, cartesian=cartesian)


UNBOUNDED: Mapping[str, Any] = {"adapt": wide, "pace": arm_pace_of}
"""Options of a fault without workspace limits, whose scale is then that of the arm."""


def _in_the_way(shape: Shape, dimensions: tuple[float, ...]) -> Arrange:
    """Place a shape `ASIDE` m, to scale, to the left of the tool at home, at its height."""

    def arrange(parameters: SafetyParameters, contract: RobotContract) -> SafetyParameters:
        tool, scale = Kinematics(contract).forward(contract.joints.home).position, arm_pace_of(contract).scale
        place, size = tool + np.array([0.0, scale * ASIDE, 0.0]), scale * np.asarray(dimensions)
        obstacle = Obstacle("post", shape, frozen_array(size), frozen_array(place), frozen_array(np.zeros(3)))
        return replace(parameters, obstacles=(*parameters.obstacles, obstacle))

    return arrange


def _table(parameters: SafetyParameters, contract: RobotContract) -> SafetyParameters:
    """Add a table at the end of the contract's own workspace, unless one is declared."""
    if any(obstacle.position[2] < 0.0 for obstacle in parameters.obstacles):
        return parameters
    table = Obstacle.box("table", np.array([0.9, 1.1, 0.04]), np.array([0.4, 0.0, -0.02]))
    return replace(parameters, obstacles=(*parameters.obstacles, table))


def _against_and_back(trial: Trial) -> None:
    """Push into the obstacle's center for a while; then the retreat must be open at full speed.

    The target is not behind the obstacle: a tool that had gone around it would be blocked on the way back.
    """
    _follow_to(trial, trial.shadow.parameters.obstacles[-1].position, trial.pace.ticks(120))
    since = len(trial.shadow.commands)
    towards((0.0, -0.2, 0.0), 60)(trial)
    aside = [float(trial.shadow.kinematics.placement(q).translation[1]) for q in trial.shadow.commands[since:]]
    back = max(aside) - aside[-1]
    enough, seconds = 0.1 * trial.pace.scale, trial.pace.ticks(60) * TABLE_TICK
    trial.require(back > enough, f"the retreat is not open: {back:.3f} m in {seconds:.1f} s, {enough:.3f} m are right")
    trial.require(trial.shadow.clearance(Reason.OBSTACLE) >= 0.0, "an obstacle was touched")


def _into_itself(trial: Trial) -> None:
    """Over the arm's own shoulder, and towards its vertical axis: which of them collides depends on its build."""
    towards((-0.6, 0.05, 0.4), 220)(trial)
    place = trial.shadow.pose().position
    _follow_to(trial, trial.shadow.foot + np.array([0.0, INSIDE, 0.5 * place[2]]), trial.pace.ticks(220))
    nearest = trial.shadow.clearance(Reason.SELF_COLLISION)
    trial.require(nearest >= 0.0, f"parts of the arm came {-1e3 * nearest:.1f} mm nearer to each other than they may")


def _touching(trial: Trial) -> None:
    """Arm too near to the table: up is open, down is not."""
    shadow = trial.shadow
    trial.answer(shadow.start())
    towards((0.0, 0.0, -0.1), 40)(trial)
    low = float(shadow.pose().position[2])
    towards((0.0, 0.0, 0.1), 60)(trial)
    up = float(shadow.pose().position[2]) - low
    enough, seconds = 0.05 * trial.pace.scale, trial.pace.ticks(60) * TABLE_TICK
    trial.require(up > enough, f"the way out of the collision is not open: {up:.3f} m in {seconds:.1f} s")


def _low(contract: RobotContract) -> FloatArray:
    """Return joint positions (n,) with the fingertips 1 mm above the table top at z = 0: nearer than allowed."""
    kinematics, q = Kinematics(contract), np.array(contract.joints.home)
    start = kinematics.placement(q)
    goal = start.translation.copy()
    goal[2] = FINGERS_BEYOND_TOOL + 1e-3
    for _ in range(50):
        error = np.concatenate([goal - kinematics.placement(q).translation, np.zeros(3)])
        jacobian = kinematics.jacobian(q)
        q = q + jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-6 * np.eye(6), error)
    return q


def table() -> list[Fault]:
    """Return the faults of this module."""
    outside = OUTSIDE
    ways = (
        ("in front of", 0, True, (0.5, 0.0, 0.0)),
        ("behind", 0, False, (-0.5, 0.0, 0.0)),
        ("left of", 1, True, (0.0, 0.6, 0.0)),
        ("right of", 1, False, (0.0, -0.6, 0.0)),
        ("above", 2, True, (0.0, 0.0, 0.5)),
        ("below", 2, False, (0.0, 0.0, -0.5)),
    )
    faces = [
        corrected(f"the target is {name} the workspace", outside, towards(way, 90), adapt=_near_face(axis, upper))
        for name, axis, upper, way in ways
    ]
    below = frozenset({Reason.OBSTACLE, Reason.RESULT_INVALID})
    itself = frozenset({Reason.SELF_COLLISION, Reason.JOINT_POSITION})  # many arms cannot bend that far
    stretched = frozenset({Reason.SINGULARITY, Reason.JOINT_POSITION, Reason.RESULT_INVALID, Reason.OBSTACLE})
    return [
        *faces,
        corrected("the target is under the table", below, towards((0.0, 0.0, -0.6), 130), arrange=_table, **UNBOUNDED),
        corrected(
            "the arm starts too near to the table",
            below,
            _touching,
            moving=False,
            posture=_low,
            arrange=_table,
            **UNBOUNDED,
        ),
        *(
            corrected(
                f"a {shape.value} is in the way, and the arm comes back",
                below,
                _against_and_back,
                arrange=_in_the_way(shape, dimensions),
                **UNBOUNDED,
            )
            for shape, dimensions in POSTS.items()
        ),
        corrected("the target is inside the arm", itself, _into_itself, **UNBOUNDED),
        # Joint-space plans have no targets out of reach and no singularities.
        corrected(
            "the arm is stretched, and comes back", stretched, _stretch_and_back, applies=commands_tool, **UNBOUNDED
        ),
    ]


def _stretch_and_back(trial: Trial) -> None:
    towards((0.9, 0.0, 0.3), 180)(trial)
    far = float(trial.shadow.pose().position[0])
    towards((-0.3, 0.0, 0.0), 80)(trial)
    back = far - float(trial.shadow.pose().position[0])
    enough, seconds = 0.05 * trial.pace.scale, trial.pace.ticks(80) * TABLE_TICK
    trial.require(back > enough, f"the way out of the singularity is not open: {back:.3f} m in {seconds:.1f} s")
