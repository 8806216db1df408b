"""Where a free arm can be, given its commands, and whether one that is elsewhere has stalled.

Without torques a contact is a joint that is measured where no free arm would be. So is a joint whose sensor has frozen
or lost its zero, or whose states come late. They differ in how they got there: an arm that is held up stays behind a
command that goes on, without a jump, while its measurement goes on changing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import pinocchio

from vla_ros.types import FloatArray

STALL_WINDOW = 0.05
"""Time over which command and arm are compared, s."""

FEWEST_STEPS = 5
"""The comparison spans at least this many steps from one measurement to the next, at any rate."""

FOLLOWED = 0.5
"""A point of the arm that went at most this fraction of its commanded way has stalled."""

MOVED = 5e-4
"""Points that were commanded to go less than this within the window say nothing, m."""

JUMP = 1.5
"""A point that is measured to go more than this multiple of its mean commanded step at once has not moved: its
measurement has jumped. At most FOLLOWED * FEWEST_STEPS - 1: a jump back that alone leaves a point behind is larger."""

JUMP_SLACK = 1e-4
"""Way that is no jump at any speed, m: noise."""

_ROUNDING = 1e-9


class TrackingModel:
    """Where free joints can be, given what was commanded; each array (n,) rad."""

    def __init__(self, delay: float, lag: FloatArray, period: float) -> None:
        """Follow commands that come every `period` s, with at most `delay` s and the time constants `lag` (n,) s."""
        self._commands: deque[FloatArray] = deque(maxlen=math.ceil(delay / period - _ROUNDING) + 1)
        # Exact for a command that is constant over a period; a lag of zero gives one.
        self._gain = 1.0 - np.exp(-period / np.maximum(lag, 1e-6))

    def reset(self, positions: FloatArray) -> None:
        """Start at rest at `positions`."""
        self._commands.clear()
        self._commands.append(positions)
        self.slowest = positions

    def command(self, positions: FloatArray) -> None:
        """Note what one tick commanded."""
        self._commands.append(positions)
        self.slowest = self.slowest + self._gain * (self._commands[0] - self.slowest)

    def residual(self, measured: FloatArray) -> FloatArray:
        """Return by how much `measured` is outside of where free joints can be; its sign says to which side."""
        places = np.vstack([*self._commands, self.slowest])
        return measured - np.clip(measured, places.min(axis=0), places.max(axis=0))


class StallCheck:
    """Compares the way that points of the arm were commanded with the way that they were measured to go.

    The points are the origins of the joints and the tool. Joints alone would not do: the force on a tool that is held
    bends the weakest joints, whichever way these were commanded.
    """

    def __init__(self, model: pinocchio.Model, tools: Sequence[int], period: float) -> None:
        """Watch the arms of `model` with the tool frames `tools`, at measurements about `period` s apart."""
        self._model, self._data, self._tools = model, model.createData(), tuple(tools)
        steps = max(math.ceil(STALL_WINDOW / period - _ROUNDING), FEWEST_STEPS)
        self._pairs: deque[tuple[FloatArray, FloatArray]] = deque(maxlen=steps + 1)

    def reset(self) -> None:
        """Forget everything."""
        self._pairs.clear()

    def add(self, measured: FloatArray, expected: FloatArray) -> None:
        """Take a measurement (n,) rad and where the slowest free arm would be, (n,) rad."""
        self._pairs.append((measured, expected))

    @property
    def stalled(self) -> bool:
        """Say whether some point of the arm has stayed behind its command, without a jump."""
        if len(self._pairs) < (self._pairs.maxlen or 0):
            return False
        steps = len(self._pairs) - 1
        way = self._points(self._pairs[-1][1]) - self._points(self._pairs[0][1])
        length = np.linalg.norm(way, axis=1)
        direction = way / np.maximum(length, _ROUNDING)[:, None]
        went = np.diff([self._points(measured) for measured, _ in self._pairs], axis=0)
        behind = (went * direction).sum(axis=(0, 2)) <= FOLLOWED * length
        steady = (np.linalg.norm(went, axis=2) <= JUMP * length / steps + JUMP_SLACK).all(axis=0)
        return bool(((length >= MOVED) & behind & steady).any())

    def _points(self, q: FloatArray) -> FloatArray:
        """Return the places (n + arms, 3) m of joints and tools, base frame."""
        pinocchio.forwardKinematics(self._model, self._data, np.asarray(q))
        tools = [
            np.array(pinocchio.updateFramePlacement(self._model, self._data, tool).translation) for tool in self._tools
        ]
        return np.array([*(self._data.oMi[i].translation for i in range(1, self._model.njoints)), *tools])
