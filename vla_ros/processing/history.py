"""Frames of a policy with a history: one action period apart, the newest last, live as in training.

The frame k periods back is the one whose stamp is nearest to that time. Before the first frame there is none, so the
first one is repeated, both at the start of an episode and at the start of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import FloatArray

Frame = TypeVar("Frame")


def frames_at(stamps: FloatArray, now: float, count: int, period: float) -> NDArray[np.int64]:
    """Return the indices (count,) of the frames seen at time `now`, oldest first.

    Args:
        stamps: (n,) s, ascending, the last of them at or before `now`.
        now: Time, s.
        count: Number of frames.
        period: Time between frames, s.
    """
    due = now - period * np.arange(count - 1, -1, -1)
    return np.asarray(np.abs(stamps[None] - due[:, None]).argmin(axis=1), dtype=np.int64)


def past_steps(stamps: Sequence[float], count: int, period: float) -> NDArray[np.int64]:
    """Return the steps (n, count) seen at each step of an episode, oldest first; `stamps` (n,) s."""
    times = np.asarray(stamps, dtype=np.float64)
    return np.stack([frames_at(times[: k + 1], now, count, period) for k, now in enumerate(times)])


class FrameHistory(Generic[Frame]):
    """Buffer of the current task's frames that may still be needed: at most twice as many as are seen at once."""

    def __init__(self, count: int, period: float) -> None:
        """Start empty; `count` frames are seen at once, `period` s apart."""
        self._count, self._period = count, period
        self._frames: list[tuple[float, Frame]] = []

    def clear(self) -> None:
        """Remove all frames, for a new task."""
        self._frames = []

    def add(self, stamp: float, frame: Frame) -> list[Frame]:
        """Add the frame stamped `stamp`, s, and return the frames seen now, oldest first."""
        self._frames = self._with(stamp, frame)
        return self._seen(self._frames)

    def peek(self, stamp: float, frame: Frame) -> list[Frame]:
        """Return the result of `add` without adding the frame."""
        return self._seen(self._with(stamp, frame))

    def _seen(self, frames: list[tuple[float, Frame]]) -> list[Frame]:
        stamps = np.array([stamp for stamp, _ in frames])
        return [frames[index][1] for index in frames_at(stamps, float(stamps[-1]), self._count, self._period)]

    def _with(self, stamp: float, frame: Frame) -> list[tuple[float, Frame]]:
        kept = self._frames
        if kept and stamp < kept[-1][0]:  # the clock of the sensors was set back
            kept = []
        elif kept and stamp == kept[-1][0]:
            kept = kept[:-1]
        if len(kept) > 1 and kept[-1][0] - kept[-2][0] < 0.5 * self._period:  # frames arrive faster than they are used
            kept = kept[:-1]
        oldest = stamp - self._count * self._period
        kept = [one for one in kept if one[0] >= oldest]
        return [*kept[-2 * self._count :], (stamp, frame)]
