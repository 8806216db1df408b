"""Merges the joint states of several sources, each with some joints and its own rate, into one robot state.

    arm      --o---o---o---o---o---o      every 2 ms, say
    gripper  -----o-------------o--      every 30 ms
    merged        ^             ^         at the newest time that every source has reached

The merged state has the stamp of its oldest part; the joints of sources with newer reports are interpolated to that
time. So joints of different times are never mixed, nothing is extrapolated, and the rate is that of the slowest source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.robot.joint_states.report import JointFault, JointReportError
from vla_ros.robot.joint_states.sources import JointSource
from vla_ros.types import FloatArray

KEPT = 1024
"""Maximum number of reports kept per source: `LARGEST_AGE` at 1 kHz."""

BACKWARD_RESTART = 5
"""Number of reports older than the newest, without a newer one in between, that mean the clock was set back."""


@dataclass(frozen=True)
class JointSample:
    """Measurement of some joints.

    Attributes:
        values: Positions and velocities (2, k), rad or m and rad/s or m/s; unused velocities may be NaN.
        stamp: Time of the measurement, s.
        received: Time of receipt, s, steady clock.
    """

    values: FloatArray
    stamp: float
    received: float


class JointMerger:
    """Merges the samples of several sources by time."""

    def __init__(self, sources: Sequence[JointSource], joints: Sequence[str]) -> None:
        """Start empty; the merged state has the order of `joints`."""
        self._sources = {source.name: source for source in sources}
        self._slots = {source.name: [list(joints).index(joint) for joint in source.joints] for source in sources}
        self._width = len(joints)
        self.restart()

    def restart(self) -> None:
        """Drop all samples."""
        self._samples: dict[str, deque[JointSample]] = {name: deque(maxlen=KEPT) for name in self._sources}
        self._backward = dict.fromkeys(self._sources, 0)
        self._refused: dict[str, JointReportError] = {}
        self._began: float | None = None
        self._merged = -np.inf

    def refuse(self, name: str, error: JointReportError) -> None:
        """Record why a report of source `name` was rejected: the cause if the source then counts as silent."""
        self._refused[name] = error

    def add(self, name: str, sample: JointSample) -> JointSample | None:
        """Add a sample of source `name`; return the merged state (2, n) that it completes, or None.

        Raises:
            JointReportError: naming a source that has been silent for longer than its `max_age`, or whose stamps are
                further from the others' than that; the error of its rejected reports where these caused the silence.
        """
        self._refused.pop(name, None)
        samples = self._samples[name]
        if samples and sample.stamp <= samples[-1].stamp:
            self._backward[name] += sample.stamp < samples[-1].stamp
            if self._backward[name] < BACKWARD_RESTART:
                return None  # late or duplicate
            self.restart()
            samples = self._samples[name]
        self._backward[name] = 0
        samples.append(sample)
        self._began = sample.received if self._began is None else self._began
        self._require_fresh(sample.received)
        if not all(self._samples.values()):
            return None
        return self._merge()

    def _require_fresh(self, now: float) -> None:
        for name, source in self._sources.items():
            heard = self._samples[name][-1].received if self._samples[name] else self._began
            if heard is not None and not now - heard <= source.max_age:
                if name in self._refused:
                    raise self._refused[name]
                what = "have stopped" if self._samples[name] else "have not come"
                raise JointReportError(
                    JointFault.SOURCE,
                    f"joint states of source '{name}' ({', '.join(source.joints)}) {what}: nothing for "
                    f"{now - heard:.2f} s, max_age is {source.max_age}",
                )

    def _merge(self) -> JointSample | None:
        newest = {name: samples[-1].stamp for name, samples in self._samples.items()}
        oldest, latest = min(newest, key=newest.__getitem__), max(newest.values())
        stamp = newest[oldest]
        if not latest - stamp <= self._sources[oldest].max_age:
            if oldest in self._refused:
                raise self._refused[oldest]
            raise JointReportError(
                JointFault.SOURCE,
                f"the stamps of source '{oldest}' are {latest - stamp:.3f} s behind those of the others, max_age is "
                f"{self._sources[oldest].max_age}: look at its rate and its clock",
            )
        if not stamp > self._merged:
            return None
        merged = np.full((2, self._width), np.nan)
        for name, samples in self._samples.items():
            values = _at(samples, stamp, self._sources[name].max_age)
            if values is None:
                return None
            merged[:, self._slots[name]] = values
        self._merged = stamp
        return JointSample(merged, stamp, min(samples[-1].received for samples in self._samples.values()))


def _at(samples: deque[JointSample], stamp: float, largest_gap: float) -> FloatArray | None:
    """Return the values (2, k) at `stamp`, s, or None when unknown; drops earlier samples."""
    while len(samples) > 1 and samples[1].stamp <= stamp:
        samples.popleft()
    before = samples[0]
    if before.stamp == stamp:
        return before.values
    if before.stamp > stamp or len(samples) < 2 or samples[1].stamp - before.stamp > largest_gap:
        return None
    after = samples[1]
    fraction = (stamp - before.stamp) / (after.stamp - before.stamp)
    return before.values + fraction * (after.values - before.values)
