"""Faults of joint-space plans: rows beyond the limits, and an implausible start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vla_ros.actions.trajectory import ArmStart
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.faults.places import UNBOUNDED
from vla_ros.safety.selftest.trial import MOVING, Fault, Play, Trial, commands_joints, corrected, holds, passes
from vla_ros.types import FloatArray

FAR = 1.5
"""Distance beyond a limit, in multiples of the joint's range, that shows that the column is wrong."""

BEYOND = 0.3
"""Requested displacement of a joint beyond its limit, rad."""

LEAP = 0.5
"""Displacement of each joint in one row, rad: 5 rad/s."""


def _row(change: Callable[[Trial, FloatArray], None]) -> Play:
    """Change the posture (n,) rad in the fourth row of a valid plan, and allow one tick for the reaction."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        rows = np.tile(shadow.q, (shadow.contract.action.horizon, 1))
        change(trial, rows[3])
        trial.send(shadow.joint_actions(rows))
        trial.tick()

    return play


def _far(side: float) -> Play:
    def change(trial: Trial, row: FloatArray) -> None:
        joints, first = trial.shadow.contract.joints, trial.shadow.columns.start
        limit = joints.upper if side > 0.0 else joints.lower
        row[first] = limit[first] + side * FAR * (joints.upper - joints.lower)[first]

    return _row(change)


def _swapped_units(trial: Trial) -> None:
    """Send angles a hundred times too large, as in another unit or in encoder counts."""
    shadow = trial.shadow
    trial.send(shadow.joint_actions(np.tile(100.0 * shadow.q + 100.0, (shadow.contract.action.horizon, 1))))
    trial.tick()


def _to_limit(trial: Trial) -> None:
    """Ask the last joint to go beyond its nearer limit: it goes as far as allowed, and this is reported."""
    shadow, joints = trial.shadow, trial.shadow.contract.joints
    goal, last = shadow.q.copy(), shadow.columns.stop - 1
    up = 2.0 * goal[last] > joints.lower[last] + joints.upper[last]
    goal[last] = joints.upper[last] + BEYOND if up else joints.lower[last] - BEYOND
    rows = np.tile(goal, (shadow.contract.action.horizon, 1))
    for _ in range(40):
        trial.answer(shadow.send(shadow.chunk(shadow.joint_actions(rows))))
        trial.tick(shadow.chunk_ticks)
    left = abs((joints.upper if up else joints.lower)[last] - shadow.q[last])
    near = 2.0 * shadow.parameters.motion.joint_margin
    trial.require(left <= near, f"the joint stopped {left:.3f} rad before its limit, at most {near:.3f} are right")


def _leap(trial: Trial) -> None:
    """Move all joints at once, back and forth with every chunk."""
    shadow, joints = trial.shadow, trial.shadow.contract.joints
    home, side = shadow.q.copy(), np.sign(0.5 * (joints.lower + joints.upper) - shadow.q)
    for i in range(5):
        rows = np.tile(home + LEAP * (i % 2) * side, (shadow.contract.action.horizon, 1))
        trial.answer(shadow.send(shadow.chunk(shadow.joint_actions(rows))))
        trial.tick(shadow.chunk_ticks)


def _start(change: Callable[[ArmStart], ArmStart]) -> Play:
    """Send a chunk with an implausible start."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        trial.answer(shadow.send(shadow.chunk(trial.good()), change(shadow.arm_start())))
        trial.tick()

    return play


def _other_joints(change: Callable[[FloatArray], FloatArray]) -> Play:
    return _start(lambda start: replace(start, joint_positions=change(start.joint_positions)))


def _pose_alone(trial: Trial) -> None:
    trial.answer(trial.shadow.send(trial.shadow.chunk(trial.good()), trial.shadow.pose()))
    trial.tick()


def table() -> list[Fault]:
    """Return the faults of this module."""
    wide, start = Reason.CHUNK_OUT_OF_RANGE, Reason.CHUNK_START
    fast = frozenset(
        {
            Reason.JOINT_VELOCITY,
            Reason.LINEAR_VELOCITY,
            Reason.ANGULAR_VELOCITY,
            Reason.WORKSPACE,
            Reason.OBSTACLE,
            Reason.SELF_COLLISION,
        }
    )
    rows = [
        holds("a joint is asked far above its upper limit", wide, _far(1.0)),
        holds("a joint is asked far below its lower limit", wide, _far(-1.0)),
        holds("joint positions in another unit", wide, _swapped_units),
        Fault("a joint is asked beyond its limit", _to_limit, MOVING, frozenset({Reason.JOINT_POSITION}), **UNBOUNDED),
        corrected("all joints leap in one row", fast, _leap),
        passes("the starting joints are NaN", start, _other_joints(lambda q: np.full_like(q, np.nan))),
        passes("the starting joints are 1e300", start, _other_joints(lambda q: np.full_like(q, 1e300))),
        passes("the starting joints are one too few", start, _other_joints(lambda q: q[:-1])),
        passes("the starting joints are beyond their limits", start, _other_joints(lambda q: q + 20.0)),
        passes("a chunk starts from a tool pose alone", start, _pose_alone),
    ]
    return [replace(row, applies=commands_joints) for row in rows]
