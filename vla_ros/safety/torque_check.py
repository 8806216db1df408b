"""Which joints' torque sensors are numb: their torques do not follow what the motion demands.

A sensor that has frozen, one whose driver adds noise to a frozen value, one that is late or belongs to another joint
says nothing of what holds the arm. What it cannot do is follow: an arm that is moved, or stopped, needs torques that
change, by inverse dynamics. A sensor that leaves most of these changes unexplained is numb until it follows again;
while little changes, it stays what it was found to be. Torques that a driver computes from the motion follow, and feel
nothing all the same: see `VETO` in `contact`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.safety.momentum_observer import MomentumObserver
from vla_ros.types import FloatArray

SMOOTHING = 0.02
"""Time constant, s, with which both torques are averaged: drivers average or delay theirs by a measurement or two."""

MEMORY = 0.2
"""Time constant, s, with which changes are forgotten: the stop in front of something outweighs what was before it."""

INFORMATIVE = 0.02
"""A smaller change is demanded than this fraction of the contract's `effort` (standard deviation): it says nothing."""

UNEXPLAINED = 0.5
"""Fraction of the demanded variance that may be missing in the torques of a sensor that feels. A frozen one lacks all,
a simulated one up to a third where joints are stopped at once."""

ALIVE = 0.1
"""A torque that has been the same to the last bit for longer than this, s, may be that of a sensor that has frozen."""


class TorqueCheck:
    """Compares the torques of one arm with its motion; `update` after every measurement that the observer has taken."""

    def __init__(self, effort: FloatArray) -> None:
        """Judge changes against the thresholds `effort` (n,) N m of contact detection."""
        self._least: FloatArray = np.square(INFORMATIVE * effort)
        self.reset()

    def reset(self) -> None:
        """Forget everything: no sensor has been found numb."""
        count = len(self._least)
        self._failed: NDArray[np.bool_] = np.zeros(count, dtype=bool)
        self._torques: FloatArray | None = None
        self._changed_at: FloatArray = np.full(count, -np.inf)  # stamps, s
        self._smooth: FloatArray | None = None  # (2, n) N m: demanded, and what of it is missing
        self._mean: FloatArray = np.zeros((2, count))
        self._variance: FloatArray = np.zeros((2, count))

    def update(self, observer: MomentumObserver, torques: FloatArray, stamp: float) -> None:
        """Take what `observer` made of the measurement of `torques` (n,) N m at `stamp`, s."""
        changed = self._torques is None or torques != self._torques
        self._torques, self._changed_at = torques, np.where(changed, stamp, self._changed_at)
        if not observer.informed:  # what happened between the two is not known
            return
        newest = np.stack([observer.demanded, observer.missing])
        if self._smooth is None:
            self._smooth = self._mean = newest
        self._smooth = self._smooth + (1.0 - np.exp(-observer.step / SMOOTHING)) * (newest - self._smooth)
        weight = 1.0 - np.exp(-observer.step / MEMORY)
        away = self._smooth - self._mean
        self._mean = self._mean + weight * away
        self._variance = (1.0 - weight) * (self._variance + weight * np.square(away))
        demanded, missing = self._variance
        # `not <=`: what is no number has not followed.
        self._failed = np.where(demanded <= self._least, self._failed, ~(missing <= UNEXPLAINED * demanded))

    def numb(self, stamp: float) -> NDArray[np.bool_]:
        """Return which joints' (n,) torques, as of `stamp`, s, do not tell what holds the joint."""
        return np.asarray(self._failed | ~(stamp - self._changed_at <= ALIVE), dtype=bool)
