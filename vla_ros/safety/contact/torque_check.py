"""Detects numb torque sensors: torques that do not follow what the motion demands.

A sensor that is frozen, adds noise to a frozen value, is late, or belongs to another joint says nothing about what
holds the arm. But it cannot follow: accelerating or stopping an arm requires changing torques, by inverse dynamics. A
sensor that leaves most of these changes unexplained is numb until it follows again; while little changes, its verdict
is kept. Torques that a driver computes from the motion do follow, and still show no contact: see `VETO` in `contact`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.safety.contact.momentum_observer import MomentumObserver
from vla_ros.types import FloatArray

SMOOTHING = 0.02
"""Time constant of smoothing both torques, s: drivers average or delay theirs by a measurement or two."""

MEMORY = 0.2
"""Time constant of forgetting changes, s: the stop at an obstacle outweighs what was before it."""

INFORMATIVE = 0.02
"""Smallest informative demanded change, as a fraction of the contract's `effort` (standard deviation)."""

UNEXPLAINED = 0.5
"""Fraction of the demanded variance that may be missing in the torques of a working sensor. A frozen one lacks all, a
simulated one up to a third where joints are stopped abruptly."""

ALIVE = 0.1
"""Time without any change of a torque, to the last bit, after which its sensor may be frozen, s."""


class TorqueCheck:
    """Compares the torques of one arm with its motion; call `update` after every update of the observer."""

    def __init__(self, effort: FloatArray) -> None:
        """Judge changes relative to the contact detection thresholds `effort` (n,) N m."""
        self._least: FloatArray = np.square(INFORMATIVE * effort)
        self.reset()

    def reset(self) -> None:
        """Reset: no sensor is numb."""
        count = len(self._least)
        self._failed: NDArray[np.bool_] = np.zeros(count, dtype=bool)
        self._torques: FloatArray | None = None
        self._changed_at: FloatArray = np.full(count, -np.inf)  # stamps, s
        self._smooth: FloatArray | None = None  # (2, n) N m: demanded, and missing part
        self._mean: FloatArray = np.zeros((2, count))
        self._variance: FloatArray = np.zeros((2, count))

    def update(self, observer: MomentumObserver, torques: FloatArray, stamp: float) -> None:
        """Add the observer's result for the measurement of `torques` (n,) N m at `stamp`, s."""
        changed = self._torques is None or torques != self._torques
        self._torques, self._changed_at = torques, np.where(changed, stamp, self._changed_at)
        if not observer.informed:  # the interval is unknown
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
        # `not <=`: NaN has not followed.
        self._failed = np.where(demanded <= self._least, self._failed, ~(missing <= UNEXPLAINED * demanded))

    def numb(self, stamp: float) -> NDArray[np.bool_]:
        """Return the joints (n,) whose torques at `stamp`, s, cannot show what holds the joint."""
        return np.asarray(self._failed | ~(stamp - self._changed_at <= ALIVE), dtype=bool)
