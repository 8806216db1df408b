"""Solver faults: no solution, invalid values, an exception, a timeout."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import numpy as np

from vla_ros.errors import KinematicsError
from vla_ros.safety.motion.joint_motion import planned_limits
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.safety.selftest.trial import HOLD, RUN, SLOW, Fault, Play, Trial
from vla_ros.types import FloatArray, SafetyDecision

REST = 40
"""Ticks for the arm to come to rest."""


def break_solver(trial: Trial, program: Callable[..., FloatArray]) -> None:
    """Replace the quadratic program of this dry run."""
    solver = trial.shadow.supervisor._motion._ik
    setattr(solver, "_program", program)  # noqa: B010 (a single instance, for one trial)


def _solver(program: Callable[..., FloatArray]) -> Play:
    def play(trial: Trial) -> None:
        break_solver(trial, program)
        trial.shadow.ask(trial.shadow.way((0.0, 0.02, 0.0)))
        trial.tick()
        speed = np.abs(trial.shadow.velocities)
        trial.tick()
        trial.require(bool((np.abs(trial.shadow.velocities) <= speed + 1e-9).all()), "it does not brake at once")
        trial.tick(REST)
        trial.require(not trial.moves, "it does not come to rest without the solver")

    return play


def _infeasible(*_: object) -> FloatArray:
    raise KinematicsError("the quadratic program ended with flag -1, expected 1")


def _crash(*_: object) -> FloatArray:
    raise ZeroDivisionError("something nobody thought of")


def _all(value: float) -> Callable[..., FloatArray]:
    return lambda hessian, *_: np.full(len(hessian), value)


def _hangs(trial: Trial) -> None:
    """The solver hangs: the node's watchdog takes the steps of the known stop, tick by tick.

    The hanging tick runs in a thread, as in the node; the trial replaces the node's clock and decides what is late.
    """
    shadow, supervisor = trial.shadow, trial.shadow.supervisor
    reached, release = threading.Event(), threading.Event()

    def program(hessian: FloatArray, *_: object) -> FloatArray:
        reached.set()
        release.wait(HANG_LIMIT)
        return np.full(len(hessian), 0.5)

    shadow.ask(shadow.way((0.0, 0.02, 0.0)))
    speed, sent = np.abs(shadow.velocities), supervisor.commanded.serial
    break_solver(trial, program)
    shadow.pass_time()
    shadow.sense()
    thread = threading.Thread(target=lambda: late.append(supervisor.tick(shadow.now)), daemon=True)
    late: list[SafetyDecision] = []
    thread.start()
    trial.require(reached.wait(HANG_LIMIT), "the solver was not asked")
    turning = _ticks_to_turn(shadow)
    for count in range(supervisor.parameters.timing.missed_ticks_hold + 2):
        taken = supervisor.watchdog_brake(shadow.now, sent)
        if taken is None:
            trial.require(False, "nothing is commanded while the solver hangs")
            break
        sent = taken[0].serial
        shadow.follow(taken[0])
        shadow.carry_out(taken[0].positions, supervisor.gripper_openings)
        slower = np.abs(shadow.velocities)
        braking = count < turning or bool((slower <= speed + 1e-9).all())
        trial.require(braking, "it does not brake while the solver hangs")
        speed = slower
        shadow.pass_time()
    release.set()
    thread.join(HANG_LIMIT)
    trial.require(bool(late) and late[0].joint_positions is None, "a step that came too late was commanded")
    trial.tick()


def _ticks_to_turn(shadow: Shadow) -> int:
    """Return the steps until every joint brakes: one decided before, then from +a to -a at the jerk limit."""
    acceleration, jerk = planned_limits(shadow.contract.joints, shadow.period)
    swing = 2.0 * acceleration / (jerk * shadow.period)
    return 1 + math.ceil(float(swing.max()))


HANG_LIMIT = 5.0
"""Maximum wall time of the trial with a hanging solver, s; it normally takes milliseconds."""


def table() -> list[Fault]:
    """Return the faults of this module."""
    any_state = frozenset({RUN, SLOW, HOLD})
    broken = frozenset({Reason.RESULT_INVALID, Reason.SOLVER})
    return [
        Fault("the solver finds no solution", _solver(_infeasible), any_state, frozenset({Reason.SOLVER})),
        Fault("the solver returns NaN", _solver(_all(np.nan)), any_state, broken),
        Fault("the solver returns 1e300", _solver(_all(1e300)), any_state, broken),
        Fault("the solver hangs", _hangs, frozenset({HOLD}), frozenset({Reason.TICK_OVERRUN})),
        Fault("the solver raises", _solver(_crash), frozenset({HOLD}), frozenset({Reason.RESULT_INVALID})),
    ]
