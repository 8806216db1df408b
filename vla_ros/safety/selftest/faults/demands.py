"""Motion faults of plans: too fast, too jerky, random, repeatedly infeasible; and faults of the gripper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.faults.places import OUTSIDE
from vla_ros.safety.selftest.faults.solver import break_solver
from vla_ros.safety.selftest.shadow import CHUNK_TICKS, TABLE_TICK
from vla_ros.safety.selftest.trial import HOLD, Fault, Play, Trial, corrected
from vla_ros.types import FloatArray

TOO_FAST = frozenset({Reason.LINEAR_VELOCITY, Reason.WORKSPACE, Reason.JOINT_VELOCITY})


def _turn(trial: Trial) -> None:
    """Rotate 1 rad further with every row: 10 rad/s."""
    for _ in range(3):
        trial.send(_turning(trial))
        trial.tick(trial.shadow.chunk_ticks)


def _turning(trial: Trial) -> FloatArray:
    """Return the rows of a valid plan, except that the tool, or the last joint, rotates 1 rad per row."""
    actions, shadow = trial.good(), trial.shadow
    turns = np.minimum(np.arange(1, len(actions) + 1) * 1.0, 3.0)
    if not shadow.of_joints:
        actions[:, 5] = turns
        return actions
    joints, rows, last = shadow.contract.joints, np.tile(shadow.q, (len(actions), 1)), shadow.columns.stop - 1
    side = 1.0 if 2.0 * shadow.q[last] < joints.lower[last] + joints.upper[last] else -1.0
    rows[:, last] = np.clip(rows[:, last] + side * turns, joints.lower[last], joints.upper[last])
    return shadow.joint_actions(rows)


def _leap(metres: float) -> Play:
    """Ask for the full displacement in the first row, alternating with every chunk."""

    def play(trial: Trial) -> None:
        centre = trial.shadow.pose().position
        trial.follow(lambda i: trial.shadow.place(centre + np.array([0.0, metres * (-1.0) ** i, 0.0])), 5 * CHUNK_TICKS)

    return play


def _chatter_of_rows(trial: Trial) -> None:
    """Alternate sides with every row."""
    centre, rows = trial.shadow.pose().position, trial.shadow.contract.action.horizon
    sides = np.outer((-1.0) ** np.arange(rows), [0.0, 0.15, 0.0])
    trial.follow(lambda _: centre + sides, 4 * CHUNK_TICKS)


def _chatter_of_chunks(trial: Trial) -> None:
    """Send a chunk every other tick, each in the opposite direction."""
    shadow = trial.shadow
    for i in range(40):
        if i % 2 == 0:
            trial.answer(shadow.ask(shadow.way((0.0, 0.05 * (-1.0) ** (i // 2), 0.0))))
        trial.tick()


def _noise(trial: Trial) -> None:
    """Send random rows, in the valid range of a chunk."""
    rng = np.random.default_rng(7)
    shadow = trial.shadow
    for _ in range(6):
        noise = rng.uniform(-1.0, 1.0, trial.good().shape)
        if shadow.of_joints:  # columns may have any unit: sample postures instead
            postures = shadow.q + rng.uniform(-1.0, 1.0, (len(noise), len(shadow.q)))
            noise = shadow.joint_actions(postures, shadow.contract.gripper.max_opening * (0.5 + 0.5 * noise[:, -1]))
        trial.send(noise)
        trial.tick(shadow.chunk_ticks)


def _corrections(trial: Trial) -> None:
    """Nothing that is asked for is feasible, again and again."""
    shadow = trial.shadow
    break_solver(trial, lambda *_: np.full(shadow.contract.joints.count, np.nan))
    for i in range(shadow.parameters.motion.corrections_hold + 2):
        if i % trial.shadow.chunk_ticks == 0:
            trial.answer(shadow.stay())
        trial.tick()
        if trial.decisions[-1].state is HOLD:
            break


def _demands() -> list[Fault]:
    noise = TOO_FAST | OUTSIDE | {Reason.ANGULAR_VELOCITY, Reason.RESULT_INVALID}
    return [
        corrected("a leap of 0.3 m in one row", TOO_FAST, _leap(0.3)),
        corrected("a leap of 3 m in one row", TOO_FAST, _leap(3.0)),
        corrected("a turn of 10 rad/s", frozenset({Reason.ANGULAR_VELOCITY, Reason.JOINT_VELOCITY}), _turn),
        corrected("the direction changes with every row", TOO_FAST, _chatter_of_rows),
        corrected("the direction changes with every chunk", frozenset({Reason.OK}) | TOO_FAST, _chatter_of_chunks),
        corrected("noise in place of a plan", noise, _noise),
        Fault("corrections without end", _corrections, frozenset({HOLD}), frozenset({Reason.TOO_MANY_CORRECTIONS})),
    ]


def _openings(values: Callable[[int, int], FloatArray]) -> Play:
    def play(trial: Trial) -> None:
        shadow = trial.shadow
        rows = shadow.contract.action.horizon
        for i in range(8):
            trial.answer(shadow.ask(shadow.place(shadow.pose().position), values(i, rows)))
            trial.tick(trial.shadow.chunk_ticks)

    return play


def _chatter_of_gripper(trial: Trial) -> None:
    """Alternate open and closed with every row: at most one reversal per reversal time is allowed."""
    shadow = trial.shadow
    wide, first = shadow.contract.gripper.max_opening, len(shadow.openings)
    _openings(lambda _, rows: np.asarray(wide * (np.arange(rows) % 2), dtype=np.float64))(trial)
    steps = np.sign(np.diff(shadow.openings[first:]))
    turns = int((np.diff(steps[steps != 0]) != 0).sum())
    most = 8 * CHUNK_TICKS * TABLE_TICK / shadow.parameters.gripper.reversal_time + 1
    trial.require(turns <= most, f"the gripper turned {turns} times, at most {most:.0f} are right")


def _has_gripper(contract: RobotContract) -> bool:
    """Return whether the action space has a column for an existing gripper."""
    arm = contract.leading
    return arm.gripper.present and contract.action.gripper(arm.name) is not None


def _grippers() -> list[Fault]:
    return [
        corrected(
            "the gripper opens and closes with every row",
            frozenset({Reason.GRIPPER_CHATTER}),
            _chatter_of_gripper,
            applies=_has_gripper,
        ),
        corrected(
            "the gripper is asked for too wide an opening",
            frozenset({Reason.GRIPPER_RANGE}),
            _openings(lambda _, rows: np.full(rows, 0.15)),
            applies=_has_gripper,
        ),
        corrected(
            "the gripper is asked for a negative opening",
            frozenset({Reason.GRIPPER_RANGE}),
            _openings(lambda _, rows: np.full(rows, -0.05)),
            applies=_has_gripper,
        ),
    ]


def table() -> list[Fault]:
    """Return the faults of this module."""
    return [*_demands(), *_grippers()]
