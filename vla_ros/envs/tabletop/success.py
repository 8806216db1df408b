"""Success checkers of the tabletop tasks; they read the physics, never a policy's claims."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.envs.env import TaskStatus

PUSH_DISTANCE = 0.06
"""Smallest displacement of a successful push, m."""

PUSH_SLOPE = 0.5
"""Largest sideways part of a push, as a fraction of its displacement in the requested direction."""

STAY_LOW = 0.03
"""Largest rise of a pushed object, m: carrying is not pushing."""

AT_REST = 0.05
"""Speed below which an object is at rest, m/s."""

STACK_ASIDE = 0.025
"""Largest horizontal offset of the upper object's center from the lower one's, m."""


@dataclass(frozen=True)
class Rest:
    """Pose of an object relative to its goal.

    Attributes:
        supported: It touches its goal.
        touched: A finger touches it.
        aside: Horizontal distance of the centers, m.
        above: Height of its center above its height when placed, m.
        speed: Speed, m/s.
    """

    supported: bool
    touched: bool
    aside: float
    above: float
    speed: float


def judge_rest(rest: Rest, reach: float, name: str, goal: str, held: bool) -> TaskStatus:
    """Check "put A in, on or on top of B": released, at rest, touching B, at most `reach` m from its middle, at height.

    The height tolerance is 1.2 cm: an object that leans on the rim from outside, or lies beside B, is outside it.
    """
    near = rest.aside <= reach and abs(rest.above) <= 0.012
    success = near and rest.supported and not rest.touched and rest.speed < AT_REST
    progress = 1.0 if success else 0.75 if near and rest.supported else 0.5 if held else 0.0
    doing = "lies there" if success else "is held" if held else f"is {100 * rest.aside:.1f} cm aside"
    return TaskStatus(success, progress, name if held else "", f"the {name} {doing}; goal: the {goal}")


def judge_push(way: float, aside: float, rise: float, name: str, direction: str, grasped: str) -> TaskStatus:
    """Check "push A to a side": `way` m in the requested direction, `aside` m across it, `rise` m upward."""
    straight = aside <= PUSH_SLOPE * max(way, 0.0) and rise <= STAY_LOW
    success = way >= PUSH_DISTANCE and straight
    progress = min(max(way / PUSH_DISTANCE, 0.0), 1.0) if straight else 0.0
    return TaskStatus(success, progress, grasped, f"the {name} moved {100 * way:.1f} cm {direction}")
