"""What a joint trajectory controller does between two commands: check, interpolate, hold, time out.

It follows `joint_trajectory_controller` of ros2_control (position interface, "splines" interpolation), so that what
drives the simulation drives a robot that has that controller. It differs on purpose in one point: the command time-out
counts from the arrival of a trajectory, not from its end, so that a sender that died can never be followed for longer.

    time      now            start + t_1        start + t_2        ...   end
    what      reference now  point 1            point 2            ...   last point, held
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from vla_ros.errors import VlaError
from vla_ros.types import FloatArray, frozen_array

MAX_LEAD = 1.0
"""A trajectory that starts later than this, s, comes from another clock."""


class TrajectoryError(VlaError):
    """A trajectory that the controller refuses; the reference stays as it was."""


@dataclass(frozen=True)
class TrajectoryPoint:
    """Where the joints shall be `time_from_start` s after the start: (n,) rad or m; velocities (n,) rad/s or m/s."""

    positions: FloatArray
    time_from_start: float
    velocities: FloatArray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", frozen_array(self.positions))
        if self.velocities is not None:
            object.__setattr__(self, "velocities", frozen_array(self.velocities))


HANDOVER = 0.005
"""A trajectory that ended moving hands its velocity on to a successor that is at most so late, s."""


@dataclass(frozen=True)
class _Knot:
    """A point of the reference at an absolute time, s."""

    time: float
    positions: FloatArray
    velocities: FloatArray | None


class TrajectoryController:
    """The reference of a group of joints over time. Not thread safe: one thread accepts and samples.

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
            command_timeout: Longest time that a trajectory is followed for after it arrived, s.
            velocity_limits: (n,) rad/s or m/s. As the motion generators of real arms do, a trajectory is refused whose
                first point could not be reached at these speeds within its time and the time-out. None: no limit.

        Raises:
            TrajectoryError: when names, positions and time-out do not make sense together.
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
        """Forget every command and hold `positions` (n,)."""
        positions = frozen_array(positions)
        if positions.shape != (len(self.names),) or not np.isfinite(positions).all():
            raise TrajectoryError(f"cannot hold {positions}, expected {len(self.names)} finite positions")
        self._knots = [_Knot(-np.inf, positions, None)]

    def accept(
        self, names: Sequence[str], points: Sequence[TrajectoryPoint], now: float, start: float | None = None
    ) -> None:
        """Follow `points` from the present reference on; what was followed before is dropped.

        Args:
            names: Joint of each column of the points, in any order.
            points: At least one, times rising.
            now: Present time, s.
            start: Time that `time_from_start` counts from, s; None for now.

        Raises:
            TrajectoryError: saying what is wrong with it. The reference stays as it was.
        """
        order = self._order(names)
        start = now if start is None else start
        self._check_start(start, now, points)
        knots = [self._knot(point, order, start) for point in points]
        times = [point.time_from_start for point in points]
        if times[0] < 0.0 or any(later <= earlier for earlier, later in pairwise(times)):
            raise TrajectoryError(f"times from start are {times}, expected rising ones from 0 s on")
        # A point whose time has passed is skipped: the reference goes from where it is to the next one, without a jump.
        coming = [knot for knot in knots if knot.time > now] or [replace(knots[-1], time=now)]
        reference = _Knot(now, *self._reference(now))
        self._check_jump(reference, coming[0])
        self._knots = [reference, *coming]
        self._accepted_at = now

    def _order(self, names: Sequence[str]) -> list[int]:
        """Return where each of this controller's joints stands in `names`."""
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
        rows = [point.positions] if point.velocities is None else [point.positions, point.velocities]
        for row in rows:
            if row.shape != (len(order),) or not np.isfinite(row).all():
                raise TrajectoryError(f"point holds {row}, expected {len(order)} finite numbers")
        if not np.isfinite(point.time_from_start):
            raise TrajectoryError(f"time from start is {point.time_from_start}, expected seconds")
        velocities = None if point.velocities is None else point.velocities[order]
        return _Knot(start + point.time_from_start, point.positions[order], velocities)

    def sample(self, now: float) -> FloatArray:
        """Return the reference at `now`, (n,) rad or m."""
        return self._reference(now)[0]

    def timed_out(self, now: float) -> bool:
        """Say whether the last command is older than the time-out, so that the reference stands still."""
        return len(self._knots) > 1 and now - self._accepted_at > self.command_timeout + 1e-9

    def _reference(self, now: float) -> tuple[FloatArray, FloatArray | None]:
        """Return positions and velocities (None: linear segment or at rest) of the reference at `now`."""
        moment = now
        if len(self._knots) > 1:
            moment = min(now, self._accepted_at + self.command_timeout)
        moment = max(moment, self._knots[0].time)
        last = self._knots[-1]
        if moment >= last.time:
            resting = now > last.time + HANDOVER or moment < now
            return last.positions, np.zeros_like(last.positions) if resting else last.velocities
        after = next(i for i, knot in enumerate(self._knots) if knot.time > moment)
        positions, velocities = _interpolate(self._knots[after - 1], self._knots[after], moment)
        return positions, np.zeros_like(positions) if moment < now else velocities


def _interpolate(before: _Knot, after: _Knot, time: float) -> tuple[FloatArray, FloatArray | None]:
    """Cubic Hermite between two knots that both have velocities, a straight line otherwise."""
    span = after.time - before.time
    s = (time - before.time) / span
    step = after.positions - before.positions
    if before.velocities is None or after.velocities is None:
        return before.positions + s * step, None if after.velocities is None else step / span
    start, end = before.velocities * span, after.velocities * span
    second, third = 3.0 * step - 2.0 * start - end, start + end - 2.0 * step
    positions = before.positions + s * (start + s * (second + s * third))
    return positions, (start + s * (2.0 * second + 3.0 * s * third)) / span
