"""Scripted expert for pick, place, stack and push. It teaches by labeling states, never by driving for a policy.

It depends on the state alone (it has no memory), so it can label any state, including those caused by a learner or a
disturbance: the property that DAgger (Ross et al. 2011) needs. The grasp is in `grasping`; this module covers carrying
a held object to its goal, and pushing with the closed hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vla_ros.actions.decoding import PoseTrajectory
from vla_ros.envs.tabletop.env import TabletopEnv, rest_height
from vla_ros.envs.tabletop.grasping import CLOSING, TOOL_DOWN, bounded_step, grasp_rule, grips
from vla_ros.envs.tabletop.scene import DIRECTION_VECTORS, RECEPTACLES, SHAPES, radius
from vla_ros.errors import InstructionError
from vla_ros.language.commands import Act, Command
from vla_ros.types import FloatArray, RobotState

TRAVEL_HEIGHT = 0.15
"""Carrying height, m above the table: above everything that stands there."""

DROP = {"bowl": 0.034, "plate": 0.008}
"""Release height of an object above its resting place, m: the open fingers must not catch the rim."""

STACK_DROP = 0.004

LET_GO = {"bowl": (0.020, 0.016), "plate": (0.016, 0.012)}
LET_GO_STACK = (0.010, 0.009)
"""Largest offset from the goal at which a held object is released: (horizontal, vertical) m."""

SINK = 0.006
"""Distance that the hand aims below the release point, m, so that it does not hover above it."""

HELD_OPENING = 0.02
"""Finger opening below which the gripper holds nothing, m."""

HAND_HALF = 0.012
"""Half the width of the closed fingers, m."""

PUSH_HEIGHT = 0.022
"""Tool height while pushing, m above the table; the fingertips are 1 cm lower."""

CLEAR_HEIGHT = 0.10
"""Lowest height at which the closed hand crosses the table, m."""

OPENING_HEIGHT = CLEAR_HEIGHT - 0.03
"""For push tasks the gripper opens only below this height, m, and is closed above it.

So half-open fingers above it are unambiguous, whether they are still closing or hold something.
"""

PUSH_STEP = 0.016
"""Tool displacement per row while pushing, m: a ball rolls away if pushed faster."""

PUSH_BOUNDS = ((0.33, 0.70), (-0.33, 0.33))
"""Bounds within which objects are pushed, (x range, y range) m."""


@dataclass(frozen=True)
class Situation:
    """State as seen by the expert.

    Attributes:
        command: Parsed instruction.
        tool: Tool position, (3,) m.
        opening: Distance between the fingers, m.
        target: Center of the object, (3,) m.
        holds_target: Both fingers touch the object.
        holds_other: Both fingers touch something else.
        goal: Release position of the object's center, (3,) m, for "place" and "stack".
        let_go: Largest offset from it at release, (horizontal, vertical) m.
        landed: The object lies in, on or over its goal and is not held.
    """

    command: Command
    tool: FloatArray
    opening: float
    target: FloatArray
    holds_target: bool
    holds_other: bool
    goal: FloatArray | None = None
    let_go: tuple[float, float] = LET_GO_STACK
    landed: bool = False


def observe_commands(env: TabletopEnv, commands: Sequence[Command]) -> list[Situation]:
    """Read the state from the physics, for each command (privileged: a policy never sees this)."""
    state, held = env.state(), env.grasped()
    return [_observe(env, command, state, held) for command in commands]


def _observe(env: TabletopEnv, command: Command, state: RobotState, held: str) -> Situation:
    goal, let_go, landed = None, LET_GO_STACK, False
    if command.goal is not None:
        rest = env.rest(command)
        reach, drop = 0.03, STACK_DROP
        if command.act is Act.PLACE:
            kind = command.goal[1]
            reach, drop, let_go = RECEPTACLES[kind].size[0], DROP[kind], LET_GO[kind]
        goal = env.thing_position(command.goal) + np.array([0.0, 0.0, rest_height(command) + drop])
        landed = held != command.name and rest.aside < reach and -0.012 < rest.above < drop + 0.01
    return Situation(
        command,
        state.end_effector.position,
        state.gripper_opening,
        env.thing_position(command.thing),
        held == command.name,
        held not in ("", command.name),
        goal,
        let_go,
        landed,
    )


def plan_command(
    situation: Situation, horizon: int, period: float, max_opening: float, gripper_speed: float
) -> PoseTrajectory:
    """Return the expert's next `horizon` rows: its rule, rolled out without physics.

    Args:
        situation: The state to label.
        horizon: Number of rows.
        period: Time between rows, s.
        max_opening: Opening of the open gripper, m.
        gripper_speed: Speed of the opening, m/s.
    """
    now, positions, openings = situation, [], []
    if now.command.act is Act.PUSH and now.opening < HELD_OPENING:  # both closed fingers may touch what they push
        now = replace(now, holds_target=False, holds_other=False)
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
            now,
            tool=tool,
            opening=opening,
            target=target,
            holds_target=holds,
            landed=landed,
            holds_other=now.holds_other and not open_gripper,
        )
    return PoseTrajectory(np.stack(positions), np.tile(TOOL_DOWN, (horizon, 1)), np.array(openings))


def _decide(now: Situation, max_opening: float) -> tuple[FloatArray, bool]:
    """Return (the next step of the tool, whether the gripper should be open)."""
    if now.command.act is Act.PUSH:
        return _push(now)
    if now.goal is not None and (now.holds_target or now.landed):
        goal, is_open = _carry(now, max_opening)
        return bounded_step(goal - now.tool), is_open
    width = SHAPES[now.command.thing[1]].width
    goal, is_open = grasp_rule(now.tool, now.opening, now.target, width, now.holds_target, now.holds_other, max_opening)
    return bounded_step(goal - now.tool), is_open


def _carry(now: Situation, max_opening: float) -> tuple[FloatArray, bool]:
    """Lift, cross, lower, open, then lift again; steers the object's center, however it sits between the fingers.

    Near the goal the action changes little with the state, so that a learner that is 1 cm off still finishes: the hand
    keeps sinking while it releases. A teacher that halts to open would teach a learner to halt without opening.
    """
    tool = now.tool
    if now.landed or now.goal is None:
        if now.opening < max_opening - CLOSING:  # rising before the fingers are open would lift a wide object with them
            return tool, True
        return np.array([tool[0], tool[1], max(TRAVEL_HEIGHT, tool[2])]), True
    way = now.goal - now.target
    is_open = bool(np.hypot(way[0], way[1]) < now.let_go[0] and -way[2] < now.let_go[1])
    return tool + _funnel(way[:2], now.target[2], now.goal[2] - SINK, TRAVEL_HEIGHT, 1.5), is_open


def _funnel(way: FloatArray, height: float, bottom: float, top: float, slope: float) -> FloatArray:
    """Return the displacement (3,) to a place `way` (2,) m aside at height `bottom`, along a funnel above it.

    Far from the place the funnel is `top` high; below its wall the tool rises, more steeply the deeper it is.
    """
    wall = bottom + min(max(slope * (float(np.hypot(way[0], way[1])) - 0.006), 0.0), top - bottom)
    freely = min(max(1.0 - (wall - height) / 0.04, 0.0), 1.0)
    return np.array([freely * way[0], freely * way[1], wall - height])


def _line(now: Situation) -> tuple[FloatArray, float, float]:
    """Return the push direction (2,), and the tool's offset from the object along it and (signed) across it, m."""
    if now.command.direction is None:
        raise InstructionError(f"'{now.command.act.value}' has no direction")
    way = np.array(DIRECTION_VECTORS[now.command.direction])
    offset = now.tool[:2] - now.target[:2]
    return way, float(offset @ way), float(offset @ np.array([-way[1], way[0]]))


def _push(now: Situation) -> tuple[FloatArray, bool]:
    tool, low = now.tool, bool(now.tool[2] < OPENING_HEIGHT)
    way, along, aside = _line(now)
    contact = -(radius(now.command.thing[1]) + HAND_HALF)
    start = now.target[:2] + (contact - 0.020) * way
    if now.holds_target or now.holds_other:  # held for another command: put it down rather than drop it
        return (np.zeros(3), True) if low else (bounded_step(np.array([0.0, 0.0, -0.02])), False)
    if now.opening > HELD_OPENING:  # open fingers may surround something: rise, then close, then descend
        if tool[2] < CLEAR_HEIGHT - 0.02:
            return bounded_step(np.array([0.0, 0.0, CLEAR_HEIGHT + 0.01 - tool[2]])), low
        return bounded_step(np.array([*start, CLEAR_HEIGHT]) - tool), False
    if tool[2] < PUSH_HEIGHT + 0.02 and along < contact + 0.014 and abs(aside) < 0.012 + 0.1 * max(contact - along, 0):
        (x_low, x_high), (y_low, y_high) = PUSH_BOUNDS
        ahead = now.target[:2] + 0.02 * way
        if not (x_low <= ahead[0] <= x_high and y_low <= ahead[1] <= y_high):
            return np.zeros(3), False
        across = np.array([-way[1], way[0]])
        step = PUSH_STEP * way - np.clip(aside, -0.006, 0.006) * across
        return np.array([step[0], step[1], np.clip(PUSH_HEIGHT - tool[2], -0.01, 0.01)]), False
    return bounded_step(_funnel(start - tool[:2], tool[2], PUSH_HEIGHT, CLEAR_HEIGHT, 3.0)), False


def _touches(now: Situation, step: FloatArray) -> bool:
    """Return whether the closed hand, one step further, is in contact with the object."""
    _, along, aside = _line(replace(now, tool=now.tool + step))
    reach = radius(now.command.thing[1]) + HAND_HALF
    low = now.tool[2] < 2.0 * SHAPES[now.command.thing[1]].half_height + 0.01
    return low and -reach <= along < 0.0 and abs(aside) < 0.02
