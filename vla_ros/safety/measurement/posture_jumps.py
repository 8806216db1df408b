"""Detects measured joint jumps that no motion can explain: a new offset, or two swapped joints.

    jumps.measure(state.joint_positions, state.stamp, now, commanded, arriving=False)  # every valid joint state
    if jumps.standing.any(): ...                                          # a joint reads as if it rested elsewhere

At rest such a measurement looks valid: a posture, and zero velocity. Only its onset gives it away: a motion, even by
hand, accelerates and decelerates, while a jump happens between two states. So a step is classified by the joint's
motion before and after it, once that is known. A jump stands until another one reverses it or leads to the last
command, the arm comes to rest there, or the driver was silent, as when it is restarted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.safety.measurement.measured_motion import NOISE, SILENCE
from vla_ros.types import FloatArray

LARGEST_ACCELERATION = 100.0
"""Upper bound of any joint acceleration, even by hand, rad/s^2: shaking an arm by hand by 0.1 rad at 5 Hz reaches it;
limits of arms are 5 to 20 (data sheets of FR3 and UR5e)."""

REFRESH = 0.05
"""Maximum time between two readings of a moving joint, s: drivers publish more often than they read the bus."""

SHORTEST = 1e-4
"""Assumed interval of states that arrive together without stamps of their own, s."""

QUIET = 0.06
"""Time without a change after which a joint counts as at rest, s; at least the interval between two states."""

RESTART = 1.0
"""Shortest silence after which a jumped joint is trusted again, s: no driver restarts faster."""

BASELINE = 0.1
"""Time for which one posture must be measured after a silence to be trusted, s: some drivers start with zeros."""


@dataclass
class _Step:
    """A step of one joint that exceeds its reach, pending until the following motion is known.

    Attributes:
        size: rad.
        gap: Time since the previous state, s.
        since: Time since the previous change, s.
        speed: Speed of the previous change, rad/s; 0 at rest.
        speed_gap: Duration of the previous change, s.
        landed: Position after the step, rad.
        time: Time of the step, s, steady clock.
    """

    size: float
    gap: float
    since: float
    speed: float
    speed_gap: float
    landed: float
    time: float


class _Runs:
    """Steps of one joint in quick succession, which together may exceed any possible motion.

    Each of two consecutive jumps fits the other, as the start and the end of a motion. The distance gives them away:
    from rest to rest a joint moves at most a t^2 / 4.
    """

    def __init__(self, reach: FloatArray) -> None:
        self.counted = np.zeros_like(reach)  # (n,) rad, steps of the run already counted as jumps
        self._reach, self._noise = reach, NOISE * reach
        self._open = np.zeros(len(reach), dtype=bool)
        self._last_step = np.full(len(reach), -np.inf)  # s, steady clock
        self._steps = np.zeros(len(reach), dtype=np.int64)
        self._travel = np.zeros_like(reach)  # rad, sum of the steps of the run
        self._time = np.zeros_like(reach)  # s, from the state before the first step to the newest state
        self._span = np.zeros_like(reach)  # s, from the state before the first step to the last step

    def take(self, step: FloatArray, gap: float, now: float) -> FloatArray:
        """Add a step (n,) rad after `gap` s.

        Returns:
            (n,) rad, the travel of a run that has just ended, without its counted jumps, if it exceeds any motion; else
            0.
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
        # A single step is judged on its own, with less time than a run is given.
        return np.where(ended & (self._steps > 1) & (np.abs(travel) > most), travel, 0.0)


class PostureJumps:
    """Accumulates the jumps of each joint. Not thread-safe."""

    def __init__(self, reach: FloatArray, tolerance: float = 0.0) -> None:
        """Treat joints within `reach` (n,) rad, or `tolerance` rad, of a command as being there."""
        self._reach, self._noise = reach, NOISE * reach
        self._near = np.maximum(reach, tolerance)
        self._last: tuple[FloatArray, float, float] | None = None  # positions (n,) rad, stamp and receipt, s
        self._heard = -np.inf  # last receipt of anything, valid or not, s, steady clock
        self._begun = -np.inf  # start of one posture measured after a silence, s
        self._unsound = False  # something invalid was received since `_last`
        self._changed_at = np.full_like(reach, -np.inf)  # (n,) s, time of the last change of each reading
        self._change = np.zeros_like(reach)  # (n,) rad, size of that change
        self._change_gap = np.full_like(reach, REFRESH)  # (n,) s, duration of that change
        self._steps: dict[int, _Step] = {}
        self._runs = _Runs(reach)
        self._jumped = np.zeros_like(reach)  # (n,) rad, jumps that have not been reversed

    @property
    def standing(self) -> np.ndarray:
        """Joints, (n,) bool, that have jumped and not jumped back."""
        return np.not_equal(self._jumped, 0.0)

    def interrupt(self) -> None:
        """Treat the next measurement as coming from a restarted driver."""
        self._forget()
        self._heard, self._begun = -np.inf, -np.inf
        self._jumped = np.zeros_like(self._jumped)

    def _forget(self) -> None:
        self._last = None
        self._steps.clear()
        self._runs = _Runs(self._reach)
        self._changed_at = np.full_like(self._changed_at, -np.inf)

    def refuse(self, now: float) -> None:
        """Record an invalid joint state received at `now`, s: it does not count as silence."""
        self._hear(now)
        self._unsound = True

    def _hear(self, now: float) -> float:
        """Record a receipt from the driver; return how long it had been silent, s."""
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
        """Add the measurement of a valid joint state.

        Args:
            positions: (n,) rad.
            stamp: Stamp of the state, s, sensor clock; where it jumps, times of receipt are used.
            now: Time of receipt, s, steady clock.
            commanded: (n,) rad, the last commanded posture; None if there is none.
            arriving: Whether the commanded motion has just ended there.
        """
        silence, unsound = self._hear(now), self._unsound
        last, self._last, self._unsound = self._last, (positions, stamp, now), False
        if last is None:
            return
        gap = stamp - last[1] if 0.0 < stamp - last[1] <= SILENCE else max(now - last[2], 0.0)
        if unsound:  # invalid states hide jumps and motions: assume no motion meanwhile
            gap = min(gap, silence)
        step = positions - last[0]
        self._judge_what_was(step, gap, now, commanded)
        if now - self._begun > BASELINE:
            for joint in np.flatnonzero(extra := self._runs.take(step, gap, now)).tolist():
                self._count(joint, float(extra[joint]), float(positions[joint]), gap, commanded)
        self._take(step, gap, now, positions)
        if unsound:
            self._change = np.zeros_like(step)  # its duration is unknown
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
                    float(step[joint]),
                    gap,
                    float(since[joint]),
                    float(speeds[joint]),
                    float(self._change_gap[joint]),
                    float(positions[joint]),
                    now,
                )
        self._change = np.where(changed, step, self._change)
        self._change_gap = np.where(changed, since, self._change_gap)
        self._changed_at = np.where(changed, now, self._changed_at)

    def _judge_what_was(self, step: FloatArray, gap: float, now: float, commanded: FloatArray | None) -> None:
        """Classify pending steps whose following motion is now known."""
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
                self._change[joint] = 0.0  # not a motion that the next step could end
                self._count(joint, one.size, one.landed, one.gap, commanded)

    def _count(self, joint: int, size: float, landed: float, gap: float, commanded: FloatArray | None) -> None:
        """Add a jump of `size` rad that ended at `landed`, rad."""
        jumped = self._jumped[joint] + size
        there = commanded is not None and abs(landed - commanded[joint]) <= self._near[joint]
        self._jumped[joint] = 0.0 if there or abs(jumped) <= self._from_rest_to_rest(joint, gap) else jumped

    def _from_rest_to_rest(self, joint: int, gap: float) -> float:
        """Return the maximum displacement, rad, of a step from rest to rest: a t^2 / 4."""
        return float(self._reach[joint]) + 0.25 * LARGEST_ACCELERATION * gap**2

    def _is_jump(self, joint: int, one: _Step, speed: float, until: float) -> bool:
        """Return whether no motion can explain a step.

        In motion, two consecutive steps differ by at most a t^2; a step consistent with the motion before or after it
        is not a jump.
        """
        if one.speed == 0.0 and speed == 0.0:
            return abs(one.size) > self._from_rest_to_rest(joint, one.gap)
        time = max(one.since, until)
        return all(
            abs(one.size - neighbor * time) > self._reach[joint] + 0.5 * LARGEST_ACCELERATION * time * (time + its_gap)
            for neighbor, its_gap in ((one.speed, one.speed_gap), (speed, until))
        )
