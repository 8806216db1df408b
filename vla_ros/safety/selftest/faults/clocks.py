"""Faults of time: clocks that jump, stop or run at another rate, and missed ticks."""

from __future__ import annotations

import numpy as np

from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import CHUNK_TICKS
from vla_ros.safety.selftest.trial import HOLD, MOVING, RUN, SLOW, Fault, Play, Trial, holds, passes

HOUR = 3600.0


def _sensor_clock(seconds: float) -> Play:
    """The sensors' clock jumps, and all later stamps carry the new time."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        shadow.stamp += seconds
        trial.tick(6)  # an older stamp counts as late until several have come in order
        before = shadow.q.copy()
        trial.follow(lambda _: shadow.place(shadow.pose().position), 4 * CHUNK_TICKS)
        trial.require(shadow.supervisor.state is RUN, "it does not go on when the clock is sound again")
        trial.require(bool((np.abs(shadow.q - before) < 0.2).all()), "it jumped when it went on")

    return play


def _steady_clock(seconds: float) -> Play:
    """The clock of the process itself jumps between two ticks, as after a suspend."""

    def play(trial: Trial) -> None:
        trial.shadow.now += seconds
        trial.tick(sense=False)

    return play


def _gap(ticks: int) -> Play:
    """The control thread does not run for this many ticks."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        shadow.ask(shadow.way((0.0, 0.01, 0.0)))
        for _ in range(ticks):
            shadow.pass_time()
            shadow.sense()
        trial.tick()

    return play


def _paused(trial: Trial) -> None:
    """Simulation time stops for a second and continues: the arm is held, then resumes without a jump."""
    shadow = trial.shadow
    stamp = shadow.stamp
    for _ in range(100):
        trial.tick(sense=False)
        shadow.stamp = stamp
    trial.require(shadow.supervisor.state is HOLD, "it does not hold while time stands still")
    before, mark = shadow.q.copy(), len(shadow.commands)
    trial.follow(lambda _: shadow.way((0.0, 0.01, 0.0)), 4 * CHUNK_TICKS)
    first = np.abs(np.asarray(shadow.commands[mark]) - before)
    trial.require(bool((first <= shadow.contract.joints.velocity * shadow.period).all()), "it jumped when time went on")


def _rate(factor: float) -> Play:
    """Simulation time runs `factor` times as fast as the steady clock."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        for i in range(6 * shadow.chunk_ticks):
            if i % trial.shadow.chunk_ticks == 0:
                trial.answer(shadow.ask(shadow.way((0.0, 0.005, 0.0))))
            shadow.stamp += (factor - 1.0) * shadow.period
            trial.tick()
        trial.require(all(one.state in MOVING for one in trial.decisions), "it held because of the rate")

    return play


def table() -> list[Fault]:
    """Return the faults of this module."""
    jump = Reason.CLOCK_JUMP
    return [
        passes("the sensors' clock jumps an hour ahead, and the arm goes on", jump, _sensor_clock(HOUR)),
        passes("the sensors' clock jumps an hour back, and the arm goes on", jump, _sensor_clock(-HOUR)),
        passes("the sensors' clock jumps 1.5 s ahead, and the arm goes on", jump, _sensor_clock(1.5)),
        passes("the sensors' clock jumps 0.5 s ahead, and the arm goes on", jump, _sensor_clock(0.5)),
        passes("simulation time stands still, and goes on", Reason.STATE_STALE, _paused),
        passes("simulation time runs at a tenth", Reason.OK, _rate(0.1)),
        passes("simulation time runs three times as fast", Reason.OK, _rate(3.0)),
        holds("the machine sleeps for an hour", Reason.STATE_STALE, _steady_clock(HOUR)),
        holds("the steady clock runs back", Reason.STATE_STALE, _steady_clock(-HOUR)),
        passes("4 ticks are missed", Reason.TICKS_MISSED, _gap(4), SLOW),
        holds("12 ticks are missed", Reason.TICKS_MISSED, _gap(12)),
    ]
