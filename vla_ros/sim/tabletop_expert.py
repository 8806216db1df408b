"""The scripted expert of the tabletop tasks: pick, place, stack, push, each a function of the state alone.

It builds on `vla_ros.sim.expert`, which grasps. Added are where a held thing goes, and how the closed hand pushes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vla_ros.actions.decoding import PoseTrajectory
from vla_ros.errors import InstructionError
from vla_ros.language.commands import Act, Command
from vla_ros.sim.expert import TOOL_DOWN, bounded_step, grasp_rule, grips
from vla_ros.sim.tabletop import TabletopCell, rest_height
from vla_ros.sim.tabletop_scene import DIRECTION_VECTORS, RECEPTACLES, SHAPES, radius
from vla_ros.types import FloatArray

TRAVEL_HEIGHT = 0.15
"""A held thing is carried so high, m above the table: over everything that stands there."""

DROP = {"bowl": 0.034, "plate": 0.008}
"""A thing is let go so much above where it will lie, m: the open fingers must not catch the rim."""

STACK_DROP = 0.004

OVER_GOAL = 0.008
"""How exactly a held thing stands over its goal before it goes down, and at the end of it before the hand opens, m."""

HAND_HALF = 0.012
"""Half the closed fingers, m."""

PUSH_HEIGHT = 0.022
"""Of the tool while it pushes, m above the table; the finger tips are a centimetre lower."""

CLEAR_HEIGHT = 0.10
"""The closed hand crosses the table no lower than this, m."""

PUSH_STEP = 0.016
"""Way of one row while pushing, m: faster, and a ball runs away."""

PUSH_BOUNDS = ((0.33, 0.70), (-0.33, 0.33))
"""A thing is not pushed beyond this, (x range, y range) m."""


@dataclass(frozen=True)
class Situation:
    """What the expert needs to know of a state.

    Attributes:
        command: What is asked for.
        tool: Of the arm, (3,) m.
        opening: Between the fingers, m.
        target: Centre of the thing, (3,) m.
        holds_target: Both fingers touch it.
        holds_other: They touch something else.
        goal: Where the thing's centre is let go, (3,) m, for "place" and "stack".
        landed: It lies in, on or over its goal and is not held.
    """

    command: Command
    tool: FloatArray
    opening: float
    target: FloatArray
    holds_target: bool
    holds_other: bool
    goal: FloatArray | None = None
    landed: bool = False


def observe_command(cell: TabletopCell, command: Command) -> Situation:
    """Read the state from the physics (privileged: a policy never sees this)."""
    state, held = cell.state(), cell.grasped()
    goal, landed = None, False
    if command.goal is not None:
        rest = cell.rest(command)
        reach = RECEPTACLES[command.goal[1]].size[0] if command.act is Act.PLACE else 0.03
        drop = DROP[command.goal[1]] if command.act is Act.PLACE else STACK_DROP
        goal = cell.thing_position(command.goal) + np.array([0.0, 0.0, rest_height(command) + drop])
        landed = held != command.name and rest.aside < reach and -0.012 < rest.above < drop + 0.01
    return Situation(
        command, state.end_effector.position, state.gripper_opening, cell.thing_position(command.thing),
        held == command.name, held not in ("", command.name), goal, landed,
    )  # fmt: skip


def plan_command(
    situation: Situation, horizon: int, period: float, max_opening: float, gripper_speed: float
) -> PoseTrajectory:
    """Return what the expert would do for the next `horizon` rows: its rule, rolled forward without physics.

    Args:
        situation: The state to label.
        horizon: Rows to plan.
        period: Seconds between rows.
        max_opening: Opening of the open gripper, m.
        gripper_speed: How fast the opening changes, m/s.
    """
    now, positions, openings = situation, [], []
    width = SHAPES[situation.command.thing[1]].width
    for _ in range(horizon):
        step, open_gripper = _decide(now, max_opening)
        change = gripper_speed * period
        opening = min(now.opening + change, max_opening) if open_gripper else max(now.opening - change, 0.0)
        tool, target, holds, landed = now.tool + step, now.target, now.holds_target, now.landed
        if holds:
            target = target + step
        elif now.command.act is Act.PUSH and _touches(now, step):
            target = target + np.array([step[0], step[1], 0.0])
        if holds or (now.command.act is not Act.PUSH and grips(tool, target, opening, width, open_gripper)):
            opening, landed = max(opening, width), landed or (holds and open_gripper)
            holds = not open_gripper
        positions.append(tool)
        openings.append(max_opening if open_gripper else 0.0)
        now = replace(
            now, tool=tool, opening=opening, target=target, holds_target=holds, landed=landed,
            holds_other=now.holds_other and not open_gripper,
        )  # fmt: skip
    return PoseTrajectory(np.stack(positions), np.tile(TOOL_DOWN, (horizon, 1)), np.array(openings))


def _decide(now: Situation, max_opening: float) -> tuple[FloatArray, bool]:
    """Return (the next step of the tool, whether the gripper should be open)."""
    if now.command.act is Act.PUSH:
        return _push(now)
    if now.goal is not None and (now.holds_target or now.landed):
        goal, is_open = _carry(now)
        return bounded_step(goal - now.tool), is_open
    width = SHAPES[now.command.thing[1]].width
    goal, is_open = grasp_rule(now.tool, now.opening, now.target, width, now.holds_target, now.holds_other, max_opening)
    return bounded_step(goal - now.tool), is_open


def _carry(now: Situation) -> tuple[FloatArray, bool]:
    """Up, over, down, open; then up again. The thing's centre is steered, however it sits between the fingers."""
    tool = now.tool
    if now.landed or now.goal is None:
        return np.array([tool[0], tool[1], max(TRAVEL_HEIGHT, tool[2])]), True
    way = now.goal - now.target
    aside, height = float(np.hypot(way[0], way[1])), float(-way[2])
    if aside > OVER_GOAL + 0.25 * max(height - 0.02, 0.0):
        if height < 0.02 or (aside > 0.04 and now.target[2] < TRAVEL_HEIGHT - 0.03):  # too low to cross: up first
            return np.array([tool[0], tool[1], tool[2] + TRAVEL_HEIGHT - now.target[2]]), False
        return tool + np.array([way[0], way[1], TRAVEL_HEIGHT - now.target[2]]), False
    if height < 0.006:
        return tool, True
    return tool + way, False


def _line(now: Situation) -> tuple[FloatArray, float, float]:
    """Return the direction (2,), how far the tool is along it from the thing, and the (signed) distance aside, m."""
    if now.command.direction is None:
        raise InstructionError(f"'{now.command.act.value}' has no direction")
    way = np.array(DIRECTION_VECTORS[now.command.direction])
    offset = now.tool[:2] - now.target[:2]
    return way, float(offset @ way), float(offset @ np.array([-way[1], way[0]]))


def _push(now: Situation) -> tuple[FloatArray, bool]:
    tool = now.tool
    if (now.holds_target or now.holds_other) and now.opening > 0.02:  # the closed hand may touch it with both fingers
        return np.zeros(3), True
    way, along, aside = _line(now)
    contact = -(radius(now.command.thing[1]) + HAND_HALF)
    if tool[2] < CLEAR_HEIGHT - 0.03 and now.opening > 0.02:  # open fingers may stand around something: up, then close
        return bounded_step(np.array([0.0, 0.0, CLEAR_HEIGHT - tool[2]])), True
    if tool[2] < PUSH_HEIGHT + 0.02 and along < contact + 0.014 and abs(aside) < 0.012 + 0.1 * max(contact - along, 0):
        (x_low, x_high), (y_low, y_high) = PUSH_BOUNDS
        ahead = now.target[:2] + 0.02 * way
        if not (x_low <= ahead[0] <= x_high and y_low <= ahead[1] <= y_high):
            return np.zeros(3), False
        across = np.array([-way[1], way[0]])
        step = PUSH_STEP * way - np.clip(aside, -0.006, 0.006) * across
        return np.array([step[0], step[1], np.clip(PUSH_HEIGHT - tool[2], -0.01, 0.01)]), False
    start = now.target[:2] + (contact - 0.020) * way
    gap = float(np.linalg.norm(tool[:2] - start))
    if gap > 0.008 + 0.2 * max(tool[2] - PUSH_HEIGHT - 0.02, 0.0):
        if tool[2] < CLEAR_HEIGHT - 0.02:
            return bounded_step(np.array([0.0, 0.0, CLEAR_HEIGHT + 0.01 - tool[2]])), False
        return bounded_step(np.array([*start, CLEAR_HEIGHT]) - tool), False
    return bounded_step(np.array([*start, PUSH_HEIGHT]) - tool), False


def _touches(now: Situation, step: FloatArray) -> bool:
    """Say whether the closed hand, one step on, is against the thing."""
    _, along, aside = _line(replace(now, tool=now.tool + step))
    reach = radius(now.command.thing[1]) + HAND_HALF
    low = now.tool[2] < 2.0 * SHAPES[now.command.thing[1]].half_height + 0.01
    return low and -reach <= along < 0.0 and abs(aside) < 0.02
