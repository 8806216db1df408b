"""Joint state faults: missing, partial, not finite, late, out of order, far from the command."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.trial import DISARMED, MOVING, REACTION, Fault, Play, Trial, holds, passes


def _measured(change: Callable[[Trial], dict[str, object]]) -> Play:
    """Replace one valid joint state by one with other values."""

    def play(trial: Trial) -> None:
        trial.shadow.pass_time()
        trial.shadow.sense(trial.shadow.state(**change(trial)))  # type: ignore[arg-type]
        trial.shadow.rewind()
        trial.tick(sense=False)

    return play


def _joint(value: float, joint: int = 4) -> Callable[[Trial], dict[str, object]]:
    def change(trial: Trial) -> dict[str, object]:
        positions = trial.shadow.q.copy()
        positions[joint] = value
        return {"positions": positions}

    return change


def _speed(value: float) -> Callable[[Trial], dict[str, object]]:
    return lambda trial: {"velocities": np.full_like(trial.shadow.q, value)}


def _unreadable(trial: Trial) -> None:
    """A message that lacks joints never becomes a state; the node reports it."""
    trial.shadow.supervisor.refuse_state(trial.shadow.now)
    trial.tick(sense=False)


def _none(trial: Trial) -> None:
    trial.answer(trial.shadow.supervisor.arm(trial.shadow.now))
    trial.tick(sense=False)


def _stale(trial: Trial) -> None:
    trial.tick(round(trial.shadow.parameters.timing.state_timeout / trial.shadow.period) + REACTION, sense=False)


def _frozen(trial: Trial) -> None:
    """States keep coming, but repeat the same measurement."""
    shadow = trial.shadow
    frozen = shadow.state()
    for _ in range(round(shadow.parameters.timing.state_timeout / shadow.period) + REACTION):
        shadow.sense(frozen)
        trial.tick(sense=False)


def _overtaken(trial: Trial) -> None:
    """Send a valid state, then an older one of another posture, then tick."""
    shadow = trial.shadow
    shadow.pass_time()
    shadow.sense()
    elsewhere = shadow.q + shadow.parameters.motion.tracking_tolerance + 0.05
    shadow.sense(shadow.state(positions=elsewhere, stamp=shadow.stamp - 3.0 * shadow.period))
    shadow.rewind()
    trial.tick(sense=False)


def _one_late(trial: Trial) -> None:
    _overtaken(trial)
    trial.tick(4)
    trial.require(all(one.state in MOVING for one in trial.decisions), "one late state stopped the arm")


def _all_reordered(trial: Trial) -> None:
    """Every other state is an older one, and must be ignored."""
    for _ in range(10):
        _overtaken(trial)
    trial.require(all(one.state in MOVING for one in trial.decisions), "late states stopped the arm")


def _far(trial: Trial) -> None:
    """The arm is not where it is commanded: it was pushed, or does not follow."""
    far = trial.shadow.parameters.motion.tracking_tolerance + 0.05
    _measured(lambda t: {"positions": t.shadow.q + far})(trial)


def table() -> list[Fault]:
    """Return the faults of this module."""
    finite, wide, width = Reason.STATE_NOT_FINITE, Reason.STATE_OUT_OF_RANGE, Reason.STATE_WIDTH
    return [
        Fault("no joint state has come", _none, frozenset({DISARMED}), frozenset({Reason.STATE_MISSING}), moving=False),
        holds("a measured joint is NaN", finite, _measured(_joint(np.nan))),
        holds("a measured joint is Inf", finite, _measured(_joint(-np.inf))),
        holds("a measured joint is 1e300", wide, _measured(_joint(1e300))),
        passes("a measured velocity is denormal", Reason.OK, _measured(_speed(5e-324))),
        holds("a measured velocity is NaN", finite, _measured(_speed(np.nan))),
        holds("a measured velocity is 1e300", wide, _measured(_speed(1e300))),
        holds("the measured gripper is NaN", finite, _measured(lambda _: {"opening": np.nan})),
        holds("the measured gripper is Inf", finite, _measured(lambda _: {"opening": np.inf})),
        holds("a state's stamp is NaN", finite, _measured(lambda _: {"stamp": np.nan})),
        holds("a state has too few joints", width, _measured(lambda t: {"positions": t.shadow.q[:-1]})),
        holds("a state has too many joints", width, _measured(lambda t: {"positions": np.append(t.shadow.q, 0.0)})),
        holds("a state lacks joints by name", width, _unreadable),
        holds("the joint states stop", Reason.STATE_STALE, _stale),
        holds("the driver repeats one state", Reason.STATE_STALE, _frozen),
        passes("one state comes late", Reason.OK, _one_late),
        passes("every other state is an old one", Reason.OK, _all_reordered),
        holds("the arm is far from its command", Reason.TRACKING, _far),
    ]
