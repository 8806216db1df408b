"""Model of `joint_trajectory_controller` (ros2_controllers): its reference for received trajectories.

Independent of the safety layer and of the simulator's controller. Written after `joint_trajectory_controller.cpp` and
`trajectory.cpp` of ros2_controllers 2 (Humble), 4 (Jazzy), 5 (Kilted) and 6.9 (Rolling), position interface, "splines",
`interpolate_from_desired_state: true` and `allow_nonzero_velocity_at_trajectory_end: true`:

* A trajectory takes effect at the first update after its arrival. Point i is due at `stamp + times[i]`; with a stamp of
  zero, at that update + `times[i]`.
* Before its first point the controller interpolates from its last commanded state. Humble assigns that state to the
  current update, so that a command is repeated. Since Jazzy it is the state at the end of the previous cycle, assigned
  to its beginning: the reference runs one cycle ahead, and the segment to the first point compensates for it. A
  trajectory whose first point is already due is followed as is, with neither effect.
* Segments are quintic where both ends have accelerations, cubic where both have velocities, linear otherwise.
* After the last point its position is held.
* `allow_trajectory_replacement` (after Jazzy; `Replacement`). In 6.8 and 6.9 a trajectory with a future stamp takes
  effect at the first update from that stamp on; until then the old one is followed, and a newer trajectory takes the
  place of the waiting one. After 6.9 (ros2_controllers pull request 2419), while a trajectory of more than one point
  is followed, a new one is merged with it on arrival: a past stamp counts as none; with a future stamp the old points
  before that stamp stay, one cycle later than they were due, and the state of the old trajectory at the stamp becomes
  a point, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from vla_ros.types import FloatArray

CLOCK_SLACK = 1e-9
"""Difference below which two times are equal, s: a nanosecond, the resolution of ROS time."""


class Release(Enum):
    """State that the controller uses as the one before a new trajectory; EXACT is the one to be expected."""

    HUMBLE = "humble"
    JAZZY = "jazzy"
    EXACT = "exact"


class Replacement(Enum):
    """Effect of a new trajectory on the one that is followed."""

    NONE = "none"
    DEFERRED = "deferred"
    MERGED = "merged"


@dataclass(frozen=True)
class TimedTrajectory:
    """A received trajectory.

    Attributes:
        arrival: Time of receipt, s.
        stamp: Header stamp, s on the same clock; 0 stands for the time of receipt.
        times: (m,) s, `time_from_start` of each point, increasing.
        positions: (m, n) rad.
        velocities: (m, n) rad/s, or None.
        accelerations: (m, n) rad/s^2, or None.
    """

    arrival: float
    stamp: float
    times: FloatArray
    positions: FloatArray
    velocities: FloatArray | None = None
    accelerations: FloatArray | None = None


@dataclass(frozen=True)
class Reference:
    """Commands to the hardware: `times` (k,) s; positions, velocities, accelerations and jerks (k, n)."""

    times: FloatArray
    positions: FloatArray
    velocities: FloatArray
    accelerations: FloatArray
    jerks: FloatArray


@dataclass
class _Knot:
    """A trajectory point at an absolute time, with those derivatives that the message has."""

    time: float
    position: FloatArray
    velocity: FloatArray | None
    acceleration: FloatArray | None


class TrajectoryControllerModel:
    """Samples the reference of one controller at its update rate."""

    def __init__(
        self,
        rate: float = 1000.0,
        release: Release = Release.JAZZY,
        replacement: Replacement = Replacement.NONE,
        phase: float = 0.0,
    ) -> None:
        """Update `rate` times a second, `phase` of a cycle after the full ones."""
        self.cycle, self.release, self.replacement, self.phase = 1.0 / rate, release, replacement, phase

    def follow(self, trajectories: Sequence[TimedTrajectory], start: FloatArray, until: float) -> Reference:
        """Return the reference from the first arrival to `until`, s.

        Args:
            trajectories: In order of arrival.
            start: (n,) rad, held before the first.
            until: Time of the last update, s.

        Raises:
            ValueError: when there are no trajectories, or arrivals decrease.
        """
        arrivals = np.array([trajectory.arrival for trajectory in trajectories])
        if len(arrivals) == 0 or (np.diff(arrivals) < 0.0).any():
            raise ValueError(f"expected trajectories in the order of arrival, got arrivals {arrivals}")
        first = self._update(arrivals[0])
        rest = np.zeros_like(start)
        knots = [_Knot((first - 1 + self.phase) * self.cycle, np.array(start, dtype=np.float64), rest, rest)]
        commanded = (knots[0].position, rest, rest)
        pieces: list[tuple[FloatArray, ...]] = []
        nontrivial = False
        effects = self._effects(trajectories)
        last = max(int(np.floor(until / self.cycle - self.phase)), effects[-1][0])
        ends = [begin for begin, _ in effects[1:]] + [last + 1]
        for (begin, trajectory), end in zip(effects, ends, strict=True):
            knots = self._replace(knots, trajectory, (begin + self.phase) * self.cycle, commanded, nontrivial)
            nontrivial = len(knots) > 2
            times: FloatArray = (np.arange(begin, end, dtype=np.float64) + self.phase) * self.cycle
            ahead = self.cycle if self.release is Release.JAZZY else 0.0
            samples = _sample(knots, times + ahead)
            pieces.append((times + ahead, *samples))
            commanded = tuple(rows[-1] for rows in samples[:3])
        return Reference(*(np.concatenate(rows) for rows in zip(*pieces, strict=True)))

    def _update(self, time: float) -> int:
        """Return the number of the first update at or after `time`, s."""
        return int(np.ceil(time / self.cycle - self.phase - 1e-6))

    def _effects(self, trajectories: Sequence[TimedTrajectory]) -> list[tuple[int, TimedTrajectory]]:
        """Return the trajectories that take effect, each with its update; one overtaken before it is left out."""
        effects: dict[int, TimedTrajectory] = {}
        waiting: tuple[int, TimedTrajectory] | None = None
        received = {self._update(trajectory.arrival): trajectory for trajectory in trajectories}
        for update, trajectory in received.items():
            if waiting is not None and waiting[0] < update:
                effects[waiting[0]] = waiting[1]
            waiting = None
            if self.replacement is Replacement.DEFERRED:
                waiting = max(self._update(trajectory.stamp), update), trajectory
            else:
                effects[update] = trajectory
        if waiting is not None:
            effects[waiting[0]] = waiting[1]
        return list(effects.items())

    def _replace(
        self,
        knots: list[_Knot],
        new: TimedTrajectory,
        now: float,
        commanded: tuple[FloatArray, FloatArray, FloatArray],
        nontrivial: bool,
    ) -> list[_Knot]:
        """Return the knots of the trajectory that takes effect at `now`; the first is the state before it."""
        if self.replacement is Replacement.MERGED and nontrivial:
            points = self._blended(knots, new, now)
        else:
            points = _points(new, now if new.stamp == 0.0 else new.stamp)
        if self.release is Release.JAZZY:
            return [_Knot(now - self.cycle, *commanded), *points]
        if self.release is Release.EXACT:
            state = [rows[0] for rows in _sample(knots, np.array([now]))[:3]]
            return [_Knot(now, *state), *points]
        return [_Knot(now, *commanded), *points]

    def _blended(self, knots: list[_Knot], new: TimedTrajectory, now: float) -> list[_Knot]:
        """Return old and new points joined as by `blend_with_active_trajectory`."""
        cursor = now - self.cycle  # of the previous update
        ahead = max(new.stamp - now, 0.0)
        bridge_time = cursor + ahead
        points = _points(new, now + ahead)
        kept = [
            _Knot(knot.time + self.cycle, knot.position, knot.velocity, knot.acceleration)
            for knot in knots[1:]
            if cursor < knot.time < bridge_time
        ]
        if now + ahead < points[0].time - CLOCK_SLACK:
            state = [rows[0] for rows in _sample(knots, np.array([bridge_time]))[:3]]
            kept.append(_Knot(now + ahead, *state))
        return kept + points


def _points(new: TimedTrajectory, start: float) -> list[_Knot]:
    return [
        _Knot(
            start + float(time),
            new.positions[i],
            None if new.velocities is None else new.velocities[i],
            None if new.accelerations is None else new.accelerations[i],
        )
        for i, time in enumerate(new.times)
    ]


def _sample(knots: list[_Knot], times: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return positions, velocities, accelerations and jerks (k, n) at increasing `times` (k,).

    `knots[0]` is the state before the trajectory, which is used only up to the first point.
    """
    due = np.array([knot.time for knot in knots])
    shape = (len(times), len(knots[0].position))
    out = tuple(np.zeros(shape) for _ in range(4))
    index = _segments(due[1:], times + CLOCK_SLACK)
    for segment in np.unique(index).tolist():
        chosen = index == segment
        if segment == len(knots) - 1:
            out[0][chosen] = knots[-1].position
            continue
        for rows, values in zip(out, _segment(knots[segment], knots[segment + 1], times[chosen]), strict=True):
            rows[chosen] = values
    return out  # type: ignore[return-value]


def _segments(due: FloatArray, times: FloatArray) -> np.ndarray:
    """Return the segment of each of `times` (k,): 0 before the first point, i between point i and the next one.

    It is the first segment that contains the time; points of a merged trajectory need not be in order.
    """
    if (np.diff(due) > 0.0).all():
        return np.searchsorted(due, times, side="right")
    within = (due[:-1, None] <= times) & (times < due[1:, None])
    found = np.where(within.any(axis=0), within.argmax(axis=0) + 1, len(due))
    return np.where(times < due[0], 0, found)


def _segment(a: _Knot, b: _Knot, times: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Interpolate like `interpolate_between_points`, at `times` (k,)."""
    span = b.time - a.time
    step = b.position - a.position
    if span <= 0.0:  # both due at once: the controller's coefficients stay zero
        coefficients = np.zeros((6, len(step)))
        coefficients[0] = a.position
    elif (
        a.velocity is not None and b.velocity is not None and a.acceleration is not None and b.acceleration is not None
    ):
        coefficients = _quintic(step, a.velocity, b.velocity, a.acceleration, b.acceleration, span)
        coefficients[0] = a.position
    elif a.velocity is not None and b.velocity is not None:
        coefficients = np.zeros((6, len(step)))
        coefficients[:4] = (
            a.position,
            a.velocity,
            (3.0 * step - (2.0 * a.velocity + b.velocity) * span) / span**2,
            (-2.0 * step + (a.velocity + b.velocity) * span) / span**3,
        )
    else:
        coefficients = np.zeros((6, len(step)))
        coefficients[:2] = a.position, step / span
    derivatives = [coefficients]
    for _ in range(3):
        derivatives.append(derivatives[-1][1:] * np.arange(1, len(derivatives[-1]))[:, None])
    powers = (np.clip(times - a.time, 0.0, max(span, 0.0))[:, None]) ** np.arange(6)
    return tuple(powers[:, : len(rows)] @ rows for rows in derivatives)  # type: ignore[return-value]


def _quintic(
    step: FloatArray, v0: FloatArray, v1: FloatArray, a0: FloatArray, a1: FloatArray, span: float
) -> FloatArray:
    """Return the coefficients (6, n) of a quintic with displacement `step` and given end states; the first is zero."""
    return np.array(
        [
            np.zeros_like(step),
            v0,
            0.5 * a0,
            (20.0 * step - (12.0 * v0 + 8.0 * v1) * span - (3.0 * a0 - a1) * span**2) / (2.0 * span**3),
            (-30.0 * step + (16.0 * v0 + 14.0 * v1) * span + (3.0 * a0 - 2.0 * a1) * span**2) / (2.0 * span**4),
            (12.0 * step - 6.0 * (v0 + v1) * span - (a0 - a1) * span**2) / (2.0 * span**5),
        ]
    )
