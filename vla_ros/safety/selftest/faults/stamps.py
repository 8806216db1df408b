"""Faults of chunk stamps, order and publishers."""

from __future__ import annotations

import numpy as np

from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.trial import REACTION, Fault, Play, Trial, holds, passes

HOUR = 3600.0


def _stamp(seconds: float) -> Play:
    """Send a chunk whose observation is `seconds` from now; it is ignored."""

    def play(trial: Trial) -> None:
        trial.send(trial.good(), observation_stamp=trial.shadow.stamp + seconds)
        trial.tick()

    return play


def _stamped(stamp: float) -> Play:
    """Send a chunk with the observation stamp `stamp`."""

    def play(trial: Trial) -> None:
        trial.send(trial.good(), observation_stamp=stamp)
        trial.tick()

    return play


def _duplicate(trial: Trial) -> None:
    shadow = trial.shadow
    chunk = shadow.chunk(trial.good())
    trial.require(shadow.send(chunk) is Reason.OK, "a sound chunk was refused")
    trial.answer(shadow.send(chunk))
    trial.tick()


def _foreign(trial: Trial) -> None:
    """While another publisher also sends chunks, none is followed."""
    timing = trial.shadow.parameters.timing
    for i in range(round(timing.chunk_timeout / trial.shadow.period) + REACTION):
        if i % trial.shadow.chunk_ticks == 0:
            trial.answer(trial.shadow.supervisor.refuse_chunk(Reason.CHUNK_FOREIGN, trial.shadow.now))
        trial.tick()


def table() -> list[Fault]:
    """Return the faults of this module."""
    return [
        passes("the stamp is zero", Reason.CHUNK_STAMP_ZERO, _stamped(0.0)),
        passes("the stamp is NaN", Reason.CHUNK_STAMP_ZERO, _stamped(np.nan)),
        passes("the stamp is 0.2 s ahead", Reason.CHUNK_STAMP_FUTURE, _stamp(0.2)),
        passes("the stamp is an hour ahead", Reason.CHUNK_STAMP_FUTURE, _stamp(HOUR)),
        passes("the observation is 2 s old", Reason.CHUNK_TOO_OLD, _stamp(-2.0)),
        passes("chunks out of order", Reason.CHUNK_OUT_OF_ORDER, _stamp(-0.4)),
        passes("the same chunk twice", Reason.CHUNK_DUPLICATE, _duplicate),
        holds("another sender of chunks", Reason.CHUNK_FOREIGN, _foreign),
    ]
