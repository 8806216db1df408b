"""Emulates a joint trajectory controller between commands: check, interpolate, hold, time out.

It mirrors `joint_trajectory_controller` of ros2_control (position interface, "splines" interpolation), so that commands
that drive the simulation also drive a robot with that controller. It deliberately differs in one point: a trajectory
that does not end at rest is followed for the command time-out counted from its arrival, not from its end, so that a
crashed sender is never followed for longer. One that ends at rest is followed to its end: that is its sender's stop.

    time      now            start + t_1        start + t_2        ...   end
    target    reference now  point 1            point 2            ...   last point, held

If start + t_1 has already passed, the trajectory is followed as is: it defines where the joints should be now. If the
reference is elsewhere, as after a halt of the simulation, it is blended back onto the trajectory within 0.1 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from vla_ros.errors import VlaError
from vla_ros.types import FloatArray, frozen_array

MAX_LEAD = 1.0
"""Largest lead of a trajectory's start, s; a later start means that its stamp is from another clock."""


class TrajectoryError(VlaError):
    """A trajectory rejected by the controller; the reference stays unchanged."""


@dataclass(frozen=True)
class TrajectoryPoint:
    """Joint targets `time_from_start` s after the start; negative before it.

    Attributes:
        positions: (n,) rad or m.
        time_from_start: s.
        velocities: (n,) rad/s or m/s, or None.
        accelerations: (n,) rad/s^2 or m/s^2, or None.
    """

    positions: FloatArray
    time_from_start: float
    velocities: FloatArray | None = None
    accelerations: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("positions", "velocities", "accelerations"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, frozen_array(getattr(self, name)))


HANDOVER = 0.005
"""Longest gap, s, over which a trajectory that ended moving hands its velocity to its successor."""


LARGEST_STEP = 2e-3
"""Largest offset, rad or m, at which a trajectory that has begun is followed without blending."""

BLENDING = 0.1
"""Time to blend back onto the points from a larger offset, s, for example after a halt of the simulation."""

State = tuple[FloatArray, FloatArray | None, FloatArray | None]
"""Positions, velocities and accelerations, (n,) each."""


@dataclass(frozen=True)
class _Knot:
    """A point of the reference at an absolute time, s."""

    time: float
    positions: FloatArray
    velocities: FloatArray | None
    accelerations: FloatArray | None = None


class TrajectoryController:
    """Reference of a group of joints over time. Not thread-safe: one thread accepts and samples.

    Times are seconds on one clock of the caller's choice (simulation time in the simulator), never going back.
    """

    def __init__(
        self,
        names: Sequence[str],
        positions: FloatArray,
        command_timeout: float,
        velocity_limits: FloatArray | None = None,
    ) -> None:
        """Hold `positions` (n,) until the first command.

        Args:
            names: Joints in the order of every (n,) array that `sample` returns.
            positions: Reference to hold, rad or m.
            command_timeout: Longest time, s from its arrival, for which a trajectory that does not end at rest is
                followed.
            velocity_limits: (n,) rad/s or m/s. As in the motion generators of real arms, a trajectory is rejected if
                its first point cannot be reached at these speeds within its time plus the time-out. None: no limit.

        Raises:
            TrajectoryError: when names, positions and time-out are inconsistent.
        """
        self.names = tuple(names)
        self.command_timeout = command_timeout
        self._velocity_limits = None if velocity_limits is None else frozen_array(velocity_limits)
        if not command_timeout > 0.0:
            raise TrajectoryError(f"command time-out is {command_timeout} s, expected more than 0")
        self._knots: list[_Knot] = []
        self._accepted_at = 0.0
        self.reset(positions)

    def reset(self, positions: FloatArray) -> None:
        """Discard every command and hold `positions` (n,)."""
        positions = frozen_array(positions)
        if positions.shape != (len(self.names),) or not np.isfinite(positions).all():
            raise TrajectoryError(f"cannot hold {positions}, expected {len(self.names)} finite positions")
        self._knots = [_Knot(-np.inf, positions, None)]
        self._until = np.inf

    def accept(
        self, names: Sequence[str], points: Sequence[TrajectoryPoint], now: float, start: float | None = None
    ) -> None:
        """Follow `points`, starting from the current reference if none has passed; replaces the previous trajectory.

        Args:
            names: Joint of each column of the points, in any order.
            points: At least one, with increasing times.
            now: Current time, s.
            start: Time that `time_from_start` counts from, s; None for now.

        Raises:
            TrajectoryError: naming the fault. The reference stays unchanged.
        """
        order = self._order(names)
        start = now if start is None else start
        self._check_start(start, now, points)
        knots = [self._knot(point, order, start) for point in points]
        times = [point.time_from_start for point in points]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise TrajectoryError(f"times from start are {times}, expected rising ones")
        reference = _Knot(now, *self._reference(now))
        passed = sum(knot.time <= now for knot in knots)
        if 0 < passed < len(knots):
            stands = _Knot(now, *_interpolate(knots[passed - 1], knots[passed], now))
            self._check_jump(reference, stands)
            if np.abs(stands.positions - reference.positions).max() <= LARGEST_STEP:
                self._knots = knots[passed - 1 :]
            else:  # a drive cannot follow a step: blend onto the points a little later
                later = [knot for knot in knots if knot.time >= now + BLENDING] or [
                    replace(knots[-1], time=now + BLENDING)
                ]
                self._knots = [reference, *later]
        else:
            coming = knots if passed == 0 else [replace(knots[-1], time=now)]
            self._check_jump(reference, coming[0])
            self._knots = [reference, *coming]
        self._accepted_at = now
        last = knots[-1].velocities
        rests = last is not None and not last.any()
        self._until = max(now + self.command_timeout, knots[-1].time if rests else now)

    def _order(self, names: Sequence[str]) -> list[int]:
        """Return the index of each of this controller's joints in `names`."""
        if sorted(names) != sorted(self.names):
            raise TrajectoryError(f"joints {list(names)} do not match: expected each of {list(self.names)} once")
        return [list(names).index(name) for name in self.names]

    def _check_start(self, start: float, now: float, points: Sequence[TrajectoryPoint]) -> None:
        if not points:
            raise TrajectoryError("the trajectory has no points, expected at least one")
        if not (np.isfinite(start) and start - now <= MAX_LEAD):
            raise TrajectoryError(
                f"the trajectory starts at {start:.3f} s, it is {now:.3f} s: "
                f"expected at most {MAX_LEAD} s ahead (does the sender use simulation time?)"
            )
        late = now - (start + points[-1].time_from_start)
        if late > self.command_timeout:
            raise TrajectoryError(f"the trajectory ended {late:.3f} s ago, more than {self.command_timeout} s")

    def _check_jump(self, reference: _Knot, first: _Knot) -> None:
        if self._velocity_limits is None:
            return
        reach = self._velocity_limits * (first.time - reference.time + self.command_timeout)
        excess = np.abs(first.positions - reference.positions) - reach
        worst = int(np.argmax(excess))
        if excess[worst] > 0.0:
            raise TrajectoryError(
                f"{self.names[worst]} is asked to jump by {excess[worst] + reach[worst]:.3f}, expected at most "
                f"{reach[worst]:.3f} in that time: does the sender know where the joint is?"
            )

    def _knot(self, point: TrajectoryPoint, order: list[int], start: float) -> _Knot:
        rows = (point.positions, point.velocities, point.accelerations)
        for row in rows:
            if row is None:
                continue
            if row.shape != (len(order),) or not np.isfinite(row).all():
                raise TrajectoryError(f"point holds {row}, expected {len(order)} finite numbers")
        if not np.isfinite(point.time_from_start):
            raise TrajectoryError(f"time from start is {point.time_from_start}, expected seconds")
        velocities, accelerations = (None if row is None else row[order] for row in rows[1:])
        return _Knot(start + point.time_from_start, point.positions[order], velocities, accelerations)

    def sample(self, now: float) -> FloatArray:
        """Return the reference at `now`, (n,) rad or m."""
        return self._reference(now)[0]

    def timed_out(self, now: float) -> bool:
        """Return whether the last command is older than the time-out, so that the reference is held."""
        return len(self._knots) > 1 and now > self._until + 1e-9

    def _reference(self, now: float) -> State:
        """Return positions, velocities and accelerations of the reference at `now`.

        Velocities are None on a linear segment, accelerations on a linear or cubic one.
        """
        moment = now
        if len(self._knots) > 1:
            moment = min(now, self._until)
        moment = max(moment, self._knots[0].time)
        last = self._knots[-1]
        if moment >= last.time:
            resting = now > last.time + HANDOVER or moment < now
            still = np.zeros_like(last.positions)
            return (last.positions, still, still) if resting else (last.positions, last.velocities, last.accelerations)
        after = next(i for i, knot in enumerate(self._knots) if knot.time > moment)
        state = _interpolate(self._knots[after - 1], self._knots[after], moment)
        return (state[0], np.zeros_like(state[0]), np.zeros_like(state[0])) if moment < now else state


def _interpolate(before: _Knot, after: _Knot, time: float) -> State:
    """Interpolate: quintic if both knots have accelerations, cubic if both have velocities, else linear."""
    span = after.time - before.time
    s = (time - before.time) / span
    step = after.positions - before.positions
    if before.velocities is None or after.velocities is None:
        return before.positions + s * step, None if after.velocities is None else step / span, None
    start, end = before.velocities * span, after.velocities * span
    if before.accelerations is None or after.accelerations is None:
        second, third = 3.0 * step - 2.0 * start - end, start + end - 2.0 * step
        positions = before.positions + s * (start + s * (second + s * third))
        return positions, (start + s * (2.0 * second + 3.0 * s * third)) / span, None
    first, last = 0.5 * before.accelerations * span**2, 0.5 * after.accelerations * span**2
    third = 10.0 * step - 6.0 * start - 4.0 * end - 3.0 * first + last
    fourth = -15.0 * step + 8.0 * start + 7.0 * end + 3.0 * first - 2.0 * last
    fifth = 6.0 * step - 3.0 * (start + end) - first + last
    positions = before.positions + s * (start + s * (first + s * (third + s * (fourth + s * fifth))))
    velocities = start + s * (2.0 * first + s * (3.0 * third + s * (4.0 * fourth + s * 5.0 * fifth)))
    accelerations = 2.0 * first + s * (6.0 * third + s * (12.0 * fourth + s * 20.0 * fifth))
    return positions, velocities / span, accelerations / span**2
