"""Faults in the content of a chunk: values, shapes, rotations, and the starting pose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vla_ros.actions.rotations import Rotation
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.trial import SLOW, Fault, Play, Trial, commands_tool, holds, passes
from vla_ros.types import FloatArray, Pose


def _value(value: float, row: int = 3, column: int = 1) -> Play:
    """Set one value of a chunk, and allow one tick for the reaction."""

    def play(trial: Trial) -> None:
        actions = trial.good()
        actions[row, column] = value
        trial.send(actions)
        trial.tick()

    return play


def _rows(change: Callable[[FloatArray], object], **changes: object) -> Play:
    """Change the rows of a chunk, and allow one tick for the reaction."""

    def play(trial: Trial) -> None:
        trial.send(change(trial.good()), **changes)
        trial.tick()

    return play


def _denormal(trial: Trial) -> None:
    trial.send(np.full_like(trial.good(), 5e-324))
    trial.tick(3)


def _contents() -> list[Fault]:
    finite, shape, wide = Reason.CHUNK_NOT_FINITE, Reason.CHUNK_SHAPE, Reason.CHUNK_OUT_OF_RANGE
    return [
        holds("an action is NaN", finite, _value(np.nan)),
        holds("an action is Inf", finite, _value(np.inf)),
        holds("an action is -Inf", finite, _value(-np.inf)),
        holds("an action is 1e300", wide, _value(1e300)),
        holds("an action is 50 m", wide, _value(50.0), applies=commands_tool),
        holds("the last value of a chunk is NaN", finite, _value(np.nan, -1, -1)),
        holds("a gripper value is 1e300", wide, _value(1e300, 5, -1)),
        holds("a rotation is Inf", finite, _value(np.inf, 0, 4), applies=commands_tool),
        passes("all actions are denormal", Reason.OK, _denormal),
        holds("a chunk has a column too few", shape, _rows(lambda rows: rows[:, :-1])),
        holds("a chunk has a column too many", shape, _rows(lambda rows: np.hstack([rows, rows[:, :1]]))),
        holds("a chunk has no rows", shape, _rows(lambda rows: rows[:0])),
        holds("a chunk has a row too many", shape, _rows(lambda rows: np.vstack([rows, rows[:1]]))),
        holds("a chunk has no columns", shape, _rows(lambda rows: rows[:, :0])),
        holds("a chunk is ragged", shape, _rows(lambda rows: [*rows.tolist(), [0.0]])),
        holds("a chunk holds words", shape, _rows(lambda rows: rows.astype(str))),
        holds("a chunk is a vector", shape, _rows(np.ravel)),
        holds("another specification", Reason.CHUNK_SPECIFICATION, _rows(np.array, specification="0123456789abcdef")),
        holds("another period", Reason.CHUNK_PERIOD, _rows(np.array, period=0.5)),
        holds("the period is zero", Reason.CHUNK_PERIOD, _rows(np.array, period=0.0)),
        holds("the period is NaN", Reason.CHUNK_PERIOD, _rows(np.array, period=np.nan)),
        holds("the policy does not trust its plan", Reason.TRUST_LOW, _rows(np.array, trust=0.01)),
        holds("trust is NaN", finite, _rows(np.array, trust=np.nan)),
        passes("the policy trusts its plan little", Reason.TRUST_REDUCED, _rows(np.array, trust=0.1), SLOW),
    ]


def _with_quaternions(contract: RobotContract) -> RobotContract:
    action, motion = contract.action, contract.action.only_motion
    groups = tuple(replace(g, rotation=Rotation.QUATERNION) if g is motion else g for g in action.groups)
    return replace(contract, action=replace(action, groups=groups))


def _quaternion(scale: float) -> Play:
    def play(trial: Trial) -> None:
        actions = trial.good()
        space = trial.shadow.contract.action
        actions[2, space.columns[space.only_motion.name]][3:] *= scale
        trial.send(actions)
        trial.tick()

    return play


def _start(position: float = 0.0, scale: float = 1.0) -> Play:
    """Send a chunk with an implausible starting pose."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        pose = shadow.pose()
        start = Pose(pose.position + position, pose.quaternion * scale)
        trial.answer(shadow.send(shadow.chunk(trial.good()), start))
        trial.tick()

    return play


def _rotations() -> list[Fault]:
    rotation, start = Reason.CHUNK_ROTATION, Reason.CHUNK_START
    rows = [
        holds("a quaternion is zero", rotation, _quaternion(0.0), adapt=_with_quaternions),
        holds("a quaternion is twice as long", rotation, _quaternion(2.0), adapt=_with_quaternions),
        holds("a quaternion is NaN", Reason.CHUNK_NOT_FINITE, _quaternion(np.nan), adapt=_with_quaternions),
        passes("a quaternion is unit within 0.0005", Reason.OK, _quaternion(1.0005), adapt=_with_quaternions),
        passes("the starting pose is NaN", start, _start(np.nan)),
        passes("the starting pose is 1e300 m away", start, _start(1e300)),
        passes("the starting quaternion is zero", start, _start(scale=0.0)),
        passes("the starting quaternion is not unit", start, _start(scale=1.1)),
    ]
    return [replace(row, applies=commands_tool) for row in rows]


def table() -> list[Fault]:
    """Return the faults of this module."""
    return [*_contents(), *_rotations()]
