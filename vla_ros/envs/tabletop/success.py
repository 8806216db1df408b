"""Judges the tabletop tasks by what the physics says, never by what a policy claims."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.envs.env import TaskStatus

PUSH_DISTANCE = 0.06
"""How far a thing must have been pushed, m."""

PUSH_SLOPE = 0.5
"""Largest sideways part of a push, as a share of the way in the asked direction."""

STAY_LOW = 0.03
"""A pushed thing may rise so much, m: carried is not pushed."""

AT_REST = 0.05
"""Slower than this, m/s, a thing lies still."""

STACK_ASIDE = 0.025
"""How far the upper thing's centre may stand from the lower one's, m."""


@dataclass(frozen=True)
class Rest:
    """Where a thing lies with respect to what it should lie in or on.

    Attributes:
        supported: It touches its goal.
        touched: A finger touches it.
        aside: Horizontal distance of the centres, m.
        above: Height of its centre above where it would be if it lay there, m.
        speed: m/s.
    """

    supported: bool
    touched: bool
    aside: float
    above: float
    speed: float


def judge_rest(rest: Rest, reach: float, name: str, goal: str, held: bool) -> TaskStatus:
    """Judge "put A in, on or on top of B": let go, at rest, touching B, at most `reach` m from its middle, and there.

    "There" is within 1.2 cm of the height: what leans on the rim from outside, or lies beside B, is higher or lower.
    """
    near = rest.aside <= reach and abs(rest.above) <= 0.012
    success = near and rest.supported and not rest.touched and rest.speed < AT_REST
    progress = 1.0 if success else 0.75 if near and rest.supported else 0.5 if held else 0.0
    doing = "lies there" if success else "is held" if held else f"is {100 * rest.aside:.1f} cm aside"
    return TaskStatus(success, progress, name if held else "", f"the {name} {doing}; goal: the {goal}")


def judge_push(way: float, aside: float, rise: float, name: str, direction: str, grasped: str) -> TaskStatus:
    """Judge "push A to a side": `way` m in the asked direction, `aside` m across it, `rise` m upward."""
    straight = aside <= PUSH_SLOPE * max(way, 0.0) and rise <= STAY_LOW
    success = way >= PUSH_DISTANCE and straight
    progress = min(max(way / PUSH_DISTANCE, 0.0), 1.0) if straight else 0.0
    return TaskStatus(success, progress, grasped, f"the {name} moved {100 * way:.1f} cm {direction}")
