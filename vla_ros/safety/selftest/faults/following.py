"""Tracking faults: an arm that does not follow its command, and sensors that report wrong positions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import CHUNK_TICKS, STEP, Shadow
from vla_ros.safety.selftest.trial import DISARMED, ESTOP, HOLD, Fault, Play, Trial, holds
from vla_ros.types import FloatArray

PATIENCE = 3.0
"""Time within which a faulty sensor must be detected, s."""

REST = 1.0
"""Time for which the arm is disarmed and at rest before it is armed again, s."""

LATE = 3.0
"""Displacement during the delay of late joint states beyond the window, as a multiple of the tolerance."""

GUIDED = 0.8
"""Displacement of an arm guided by hand, rad."""

REST_TICKS = 60
"""Table ticks for the arm, and its measurement, to come to rest."""

HANG_TIME = 5.0
"""Time for which the layer does not run, s."""

SLOW_STEP = 0.002
"""Tool displacement per row of a slow plan, m: 0.02 m/s with rows 0.1 s apart."""

Measure = Callable[[Trial], dict[str, object]]


def _lying(measure: Callable[[Trial], Measure], step: float = STEP) -> Play:
    """The arm follows the policy, but joint states are replaced by the output of `measure`."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        says = measure(trial)
        row = step if step == STEP else step / shadow.gait
        turn = max(round(4.0 / shadow.gait), 1)
        for i in range(round(PATIENCE / shadow.period)):
            shadow.pass_time()
            shadow.sense(shadow.state(**says(trial)))  # type: ignore[arg-type]
            if i % trial.shadow.chunk_ticks == 0:
                # Back and forth along one line, so that the path does not end before the fault is detected.
                back = -1.0 if i // (turn * shadow.chunk_ticks) % 2 else 1.0
                trial.answer(shadow.ask(shadow.way((0.0, back * row, 0.0))))
            shadow.rewind()
            trial.tick(sense=False)
            if shadow.supervisor.state is HOLD:
                return

    return play


def _frozen(trial: Trial) -> Measure:
    q = trial.shadow.q.copy()
    return lambda _: {"positions": q}


def _frozen_then_armed(trial: Trial) -> None:
    """The driver keeps reporting the old positions with fresh stamps; the arm is elsewhere."""
    shadow, supervisor = trial.shadow, trial.shadow.supervisor
    frozen = shadow.q.copy()
    _lying(_frozen)(trial)
    supervisor.disarm(shadow.now)
    for _ in range(round(REST / shadow.period)):
        shadow.pass_time()
        shadow.sense(shadow.state(positions=frozen, velocities=np.zeros_like(frozen)))
        shadow.rewind()
        trial.tick(sense=False)
    trial.decisions.clear()
    trial.answer(supervisor.arm(shadow.now))
    trial.tick(sense=False)


def _jumped_then_armed(trial: Trial) -> None:
    """A joint loses its zero while nothing is commanded; from then on it is measured at rest, elsewhere."""
    shadow, supervisor = trial.shadow, trial.shadow.supervisor
    supervisor.disarm(shadow.now)
    while supervisor.commanding:
        trial.tick()
    lost = np.zeros_like(shadow.q)
    middle = 0.5 * (shadow.contract.joints.lower[1] + shadow.contract.joints.upper[1])
    lost[1] = GUIDED if shadow.q[1] < middle else -GUIDED
    for false in (False, True):
        for _ in range(round(REST / shadow.period)):
            shadow.pass_time()
            shadow.sense(shadow.state(positions=shadow.q + false * lost, velocities=np.zeros_like(lost)))
            shadow.rewind()
            trial.tick(sense=False)
    trial.decisions.clear()
    trial.answer(supervisor.arm(shadow.now))
    trial.tick(sense=False)


def _late(trial: Trial) -> Measure:
    past: list[FloatArray] = []
    shadow, motion = trial.shadow, trial.shadow.parameters.motion
    delay = motion.follow_window + LATE * motion.follow_tolerance / float(np.abs(shadow.velocities).max())
    late = round(delay / shadow.period)

    def measure(now: Trial) -> dict[str, object]:
        past.append(now.shadow.q.copy())
        return {"positions": past[max(len(past) - 1 - late, 0)]}

    return measure


def _offset(trial: Trial) -> Measure:
    """One joint loses its zero: its offset exceeds the tolerance, and it still moves with the arm."""
    motion = trial.shadow.parameters.motion
    offset = np.zeros_like(trial.shadow.q)
    offset[1] = 0.5 * (motion.follow_tolerance + motion.tracking_tolerance)
    return lambda now: {"positions": now.shadow.q + offset}


def _swapped(trial: Trial) -> Measure:
    """Swap the measurements of the two neighboring joints with the largest difference."""
    first = int(np.argmax(np.abs(np.diff(trial.shadow.q))))
    order = np.arange(len(trial.shadow.q))
    order[[first, first + 1]] = first + 1, first
    return lambda now: {"positions": now.shadow.q[order]}


def _guided(trial: Trial) -> None:
    """The held arm is guided away by hand and released: it must neither be driven back nor resume by itself."""
    shadow, supervisor = trial.shadow, trial.shadow.supervisor
    trial.tick(round(shadow.parameters.timing.chunk_timeout / shadow.period) + 40)  # the policy publishes nothing more
    away = _away(shadow)
    for share in np.linspace(0.0, 1.0, 100):
        shadow.pass_time()
        shadow.sense(shadow.state(positions=shadow.q + share * (away - shadow.q), velocities=np.zeros_like(away)))
        decision = supervisor.tick(shadow.now)
        trial.decisions.append(decision)
    trial.require(supervisor.state is DISARMED, "it goes on commanding a posture that the arm has left")
    shadow.q, shadow.velocities = away, np.zeros_like(away)
    shadow.commands.clear()
    shadow.commands.append(away.copy())
    trial.follow(lambda _: shadow.way((0.0, STEP, 0.0)), 6 * CHUNK_TICKS)
    trial.require(len(shadow.commands) == 1, "it goes on by itself")
    trial.require(supervisor.arm(shadow.now) is Reason.OK, "it cannot be armed where it is now")
    trial.tick()
    trial.require(bool((shadow.commands[-1] == away).all()), "arming begins with another posture than the measured one")
    supervisor.disarm(shadow.now)
    trial.tick(2)


def _guided_in_stop(trial: Trial) -> None:
    """The same in an emergency stop: it stays latched, and the posture that the arm has left is not commanded."""
    shadow, supervisor = trial.shadow, trial.shadow.supervisor
    supervisor.press_estop(shadow.now)
    trial.tick(shadow.ticks(REST_TICKS))
    away = _away(shadow)
    for share in np.linspace(0.0, 1.0, 100):
        shadow.pass_time()
        shadow.sense(shadow.state(positions=shadow.q + share * (away - shadow.q), velocities=np.zeros_like(away)))
        trial.decisions.append(supervisor.tick(shadow.now))
    trial.require(trial.decisions[-1].joint_positions is None, "it goes on commanding a posture that the arm has left")
    shadow.q, shadow.velocities = away, np.zeros_like(away)
    supervisor.release_estop(shadow.now)
    trial.tick()
    trial.require(trial.answer(supervisor.reset(shadow.now)) is Reason.OK, "it cannot be reset")
    trial.tick(2)
    trial.require(not supervisor.commanding, "a reset commands the arm")
    supervisor.press_estop(shadow.now)
    trial.tick()


def _moved_in_gap(trial: Trial) -> None:
    """The layer hangs until the controller drops the last command, and the arm is moved meanwhile."""
    shadow = trial.shadow
    away = _away(shadow)
    shadow.now, shadow.stamp = shadow.now + HANG_TIME, shadow.stamp + HANG_TIME
    shadow.q, shadow.velocities = away, np.zeros_like(away)
    trial.require(shadow.supervisor.watchdog_brake(shadow.now, 0) is None, "the watch commands on after the gap")
    trial.tick(shadow.ticks(REST_TICKS))
    moved = [one for one in trial.decisions if one.joint_positions is not None]
    trial.require(not moved, "it goes on commanding a posture that the arm has left")


def _away(shadow: Shadow) -> FloatArray:
    """Return the posture to which the arm is moved by hand, (n,) rad."""
    away, joints = shadow.q.copy(), shadow.contract.joints
    away[1] += GUIDED if away[1] < 0.5 * (joints.lower[1] + joints.upper[1]) else -GUIDED
    return away


def table() -> list[Fault]:
    """Return the faults of this module."""
    lost = frozenset({Reason.TRACKING})
    either = frozenset({Reason.TRACKING, Reason.NOT_FOLLOWING})
    stop = frozenset({HOLD, DISARMED})
    return [
        holds("positions freeze with fresh stamps", Reason.NOT_FOLLOWING, _lying(_frozen)),
        holds("positions freeze with fresh stamps in slow motion", Reason.NOT_FOLLOWING, _lying(_frozen, SLOW_STEP)),
        Fault(
            "a driver that has frozen in motion is armed",
            _frozen_then_armed,
            frozenset({DISARMED}),
            frozenset({Reason.POSTURE_UNSEEN}),
        ),
        Fault(
            "a joint loses its zero while disarmed, and is armed",
            _jumped_then_armed,
            frozenset({DISARMED}),
            frozenset({Reason.POSTURE_JUMPED}),
        ),
        holds("joint states come too late", Reason.NOT_FOLLOWING, _lying(_late)),
        holds("a joint has lost its zero", Reason.NOT_FOLLOWING, _lying(_offset)),
        Fault("two joints are swapped", _lying(_swapped), stop, either),
        Fault("the held arm is guided away by hand", _guided, frozenset({DISARMED}), lost),
        Fault(
            "the arm is guided away in an emergency stop",
            _guided_in_stop,
            frozenset({ESTOP}),
            frozenset({Reason.ESTOP_PRESSED}),
        ),
        Fault("the arm is moved while the layer is held up", _moved_in_gap, frozenset({DISARMED}), lost),
    ]
