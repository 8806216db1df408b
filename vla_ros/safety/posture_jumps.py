"""Has a joint been measured to jump, as no joint moves: an offset that begins, two joints that are swapped.

    jumps.measure(state.joint_positions, state.stamp, now, commanded, arriving=False)  # every sound joint state
    if jumps.standing.any(): ...                                          # a joint reads as if it rested elsewhere

At rest such a measurement is sound in every other way: a posture, and a velocity of zero. What betrays it is the moment
when it began: a motion, by a hand too, gathers speed and loses it, and a jump is there between two states. So a step is
judged by what the joint did before and after it, once that is known. A jump stands until another one takes it back, or
leads to the last command, the arm comes to rest there, or the driver was silent, as when it was started again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.safety.measured_motion import NOISE, SILENCE
from vla_ros.types import FloatArray

LARGEST_ACCELERATION = 100.0
"""Nothing that moves a joint of an arm, a hand included, accelerates it by more, rad/s^2: a hand that shakes an arm by
0.1 rad five times a second reaches this; limits of arms are 5 to 20 (data sheets of FR3 and UR5e)."""

REFRESH = 0.05
"""Longest time between two readings of a joint that moves, s: drivers publish more often than they read the bus."""

SHORTEST = 1e-4
"""States that come together, and carry no stamps of their own, are taken to be so far apart, s."""

QUIET = 0.06
"""A joint that has not changed for so long, s, rests; at least the time between two states."""

RESTART = 1.0
"""Shortest silence after which a joint that has jumped is believed, s: no driver is started again faster."""

BASELINE = 0.1
"""A posture that is measured for so long after a silence is one, s: there are drivers that begin with zeros."""


@dataclass
class _Step:
    """One step of one joint that is larger than its reach, until what follows it is known.

    Attributes:
        size: rad.
        gap: From the state before, s.
        since: From the change before, s.
        speed: Of the change before, rad/s; 0 at rest.
        speed_gap: The time in which that change came about, s.
        landed: Where it led, rad.
        time: When, s, steady clock.
    """

    size: float
    gap: float
    since: float
    speed: float
    speed_gap: float
    landed: float
    time: float


class _Runs:
    """Steps of one joint in quick succession, which together may go further than any motion between them.

    Each of two jumps in a row fits the other one, as the beginning and the end of a motion. What betrays them is the
    distance: from rest to rest a joint goes a t^2 / 4 at most.
    """

    def __init__(self, reach: FloatArray) -> None:
        self.counted = np.zeros_like(reach)  # (n,) rad, of steps of the run that are jumps by themselves
        self._reach, self._noise = reach, NOISE * reach
        self._open = np.zeros(len(reach), dtype=bool)
        self._last_step = np.full(len(reach), -np.inf)  # s, steady clock
        self._steps = np.zeros(len(reach), dtype=np.int64)
        self._travel = np.zeros_like(reach)  # rad, of the steps of the run
        self._time = np.zeros_like(reach)  # s, from the state before the first step to the newest
        self._span = np.zeros_like(reach)  # s, and to the last step

    def take(self, step: FloatArray, gap: float, now: float) -> FloatArray:
        """Take a step (n,) rad after `gap` s.

        Returns:
            (n,) rad, what a run that has just ended went beyond any motion and its own jumps; else 0.
        """
        stepped = np.abs(step) > self._noise
        begins = stepped & ~self._open
        for values in (self._travel, self._time, self._span, self.counted):
            values[begins] = 0.0
        self._steps[begins] = 0
        self._open |= begins
        self._time += gap
        self._travel += np.where(self._open, step, 0.0)
        self._steps += stepped
        self._span = np.where(stepped, self._time, self._span)
        self._last_step = np.where(stepped, now, self._last_step)
        ended = self._open & (now - self._last_step > max(QUIET, 1.5 * gap))
        self._open &= ~ended
        span = self._span + REFRESH
        most = self._reach + self._noise / max(gap, SHORTEST) * span + 0.25 * LARGEST_ACCELERATION * span**2
        travel = self._travel - self.counted
        # One step alone is judged by itself, with less time than a run is given.
        return np.where(ended & (self._steps > 1) & (np.abs(travel) > most), travel, 0.0)


class PostureJumps:
    """Adds up what each joint has jumped. One thread at a time."""

    def __init__(self, reach: FloatArray, tolerance: float = 0.0) -> None:
        """Take joints within `reach` (n,) rad, or `tolerance` rad, of a command to be there."""
        self._reach, self._noise = reach, NOISE * reach
        self._near = np.maximum(reach, tolerance)
        self._last: tuple[FloatArray, float, float] | None = None  # (n,) rad, its stamp and receipt, s
        self._heard = -np.inf  # when anything came last, sound or not, s, steady clock
        self._begun = -np.inf  # from when on one posture was measured after a silence, s
        self._unsound = False  # something else has come since `_last`
        self._changed_at = np.full_like(reach, -np.inf)  # (n,) s, when the reading of each joint last changed
        self._change = np.zeros_like(reach)  # (n,) rad, by how much then
        self._change_gap = np.full_like(reach, REFRESH)  # (n,) s, and in what time
        self._steps: dict[int, _Step] = {}
        self._runs = _Runs(reach)
        self._jumped = np.zeros_like(reach)  # (n,) rad, jumps that nothing has taken back

    @property
    def standing(self) -> np.ndarray:
        """Which joints, (n,) bool, have jumped and not jumped back."""
        return np.not_equal(self._jumped, 0.0)

    def interrupt(self) -> None:
        """Take what is measured next to come from a driver that was started again."""
        self._forget()
        self._heard, self._begun = -np.inf, -np.inf
        self._jumped = np.zeros_like(self._jumped)

    def _forget(self) -> None:
        self._last = None
        self._steps.clear()
        self._runs = _Runs(self._reach)
        self._changed_at = np.full_like(self._changed_at, -np.inf)

    def refuse(self, now: float) -> None:
        """Note that something came at `now`, s, that was no sound joint state: that is no silence."""
        self._hear(now)
        self._unsound = True

    def _hear(self, now: float) -> float:
        """Note that the driver has said something; returns how long it had been silent, s."""
        silence, self._heard = now - self._heard, now
        if silence > SILENCE:
            self._forget()
            self._begun = now
        if silence > RESTART:
            self._jumped = np.zeros_like(self._jumped)
        return silence

    def measure(
        self, positions: FloatArray, stamp: float, now: float, commanded: FloatArray | None, *, arriving: bool
    ) -> None:
        """Take what a sound joint state measured.

        Args:
            positions: (n,) rad.
            stamp: Of the state, s, sensor clock; where that jumps, the times of receipt are left.
            now: When it came, s, steady clock.
            commanded: (n,) rad, where the arm was last commanded to; None when it never was.
            arriving: The commanded motion has just ended there.
        """
        silence, unsound = self._hear(now), self._unsound
        last, self._last, self._unsound = self._last, (positions, stamp, now), False
        if last is None:
            return
        gap = stamp - last[1] if 0.0 < stamp - last[1] <= SILENCE else max(now - last[2], 0.0)
        if unsound:  # what is not sound hides jumps as well as motions: none is taken to have gone on
            gap = min(gap, silence)
        step = positions - last[0]
        self._judge_what_was(step, gap, now, commanded)
        if now - self._begun > BASELINE:
            for joint in np.flatnonzero(extra := self._runs.take(step, gap, now)).tolist():
                self._count(joint, float(extra[joint]), float(positions[joint]), gap, commanded)
        self._take(step, gap, now, positions)
        if unsound:
            self._change = np.zeros_like(step)  # nobody knows in what time that came about
        if arriving and commanded is not None:
            self._jumped = np.where(np.abs(positions - commanded) <= self._near, 0.0, self._jumped)

    def _take(self, step: FloatArray, gap: float, now: float, positions: FloatArray) -> None:
        changed = step != 0.0
        since = np.minimum(np.where(np.isfinite(self._changed_at), now - self._changed_at, REFRESH), REFRESH)
        since = np.maximum(since, max(min(gap, REFRESH), SHORTEST))
        if not now - self._begun > BASELINE:
            self._begun = now if (np.abs(step) > self._reach).any() else self._begun
        else:
            rested = (now - self._changed_at > max(QUIET, 1.5 * gap)) | (np.abs(self._change) <= self._noise)
            speeds = np.where(rested, 0.0, self._change / self._change_gap)
            for joint in np.flatnonzero(np.abs(step) > self._reach).tolist():
                self._steps[joint] = _Step(
                    float(step[joint]), gap, float(since[joint]), float(speeds[joint]), float(self._change_gap[joint]),
                    float(positions[joint]), now,
                )  # fmt: skip
        self._change = np.where(changed, step, self._change)
        self._change_gap = np.where(changed, since, self._change_gap)
        self._changed_at = np.where(changed, now, self._changed_at)

    def _judge_what_was(self, step: FloatArray, gap: float, now: float, commanded: FloatArray | None) -> None:
        """Judge the steps after which it is known now how the joint went on."""
        for joint, one in list(self._steps.items()):
            elapsed, goes_on = now - one.time, bool(step[joint] != 0.0)
            if not goes_on and elapsed < QUIET:
                continue
            del self._steps[joint]
            until = max(min(elapsed, REFRESH), min(gap, REFRESH), SHORTEST) if goes_on else REFRESH
            moves = goes_on and abs(step[joint]) > self._noise[joint] and elapsed <= max(QUIET, 1.5 * gap)
            speed = float(step[joint]) / until if moves else 0.0
            if self._is_jump(joint, one, speed, until):
                self._runs.counted[joint] += one.size
                self._change[joint] = 0.0  # no motion, that the next step could be the end of
                self._count(joint, one.size, one.landed, one.gap, commanded)

    def _count(self, joint: int, size: float, landed: float, gap: float, commanded: FloatArray | None) -> None:
        """Add a jump of `size` rad that led to `landed`, rad."""
        jumped = self._jumped[joint] + size
        there = commanded is not None and abs(landed - commanded[joint]) <= self._near[joint]
        self._jumped[joint] = 0.0 if there or abs(jumped) <= self._from_rest_to_rest(joint, gap) else jumped

    def _from_rest_to_rest(self, joint: int, gap: float) -> float:
        """Return how far a joint that rests before and after a step can go in it, rad: a quarter of a t^2."""
        return float(self._reach[joint]) + 0.25 * LARGEST_ACCELERATION * gap**2

    def _is_jump(self, joint: int, one: _Step, speed: float, until: float) -> bool:
        """Say whether nothing that moves makes such a step.

        In motion two steps in a row differ by a t^2 at most; a step that fits what was before or what came after is
        no jump.
        """
        if one.speed == 0.0 and speed == 0.0:
            return abs(one.size) > self._from_rest_to_rest(joint, one.gap)
        time = max(one.since, until)
        return all(
            abs(one.size - neighbor * time) > self._reach[joint] + 0.5 * LARGEST_ACCELERATION * time * (time + its_gap)
            for neighbor, its_gap in ((one.speed, one.speed_gap), (speed, until))
        )
