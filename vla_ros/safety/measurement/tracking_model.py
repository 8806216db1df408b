"""Reachable positions of a free arm given its commands, and stall detection outside of them.

Without torques, a contact is a joint measured where no free arm can be. So is a joint whose sensor is frozen or has
lost its zero, or whose states are late. They differ in how they got there: a held arm lags a continuing command without
a jump, while its measurement keeps changing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import pinocchio

from vla_ros.types import FloatArray

STALL_WINDOW = 0.05
"""Time window for comparing command and arm, s."""

FEWEST_STEPS = 5
"""Minimum number of measurement intervals in the window, at any rate."""

FOLLOWED = 0.5
"""Maximum fraction of its commanded displacement that a stalled point of the arm has covered."""

MOVED = 5e-4
"""Minimum commanded displacement of a point within the window to be informative, m."""

JUMP = 1.5
"""Single measured step, as a multiple of the mean commanded step, above which the measurement has jumped, not the
point. At most FOLLOWED * FEWEST_STEPS - 1: a jump back that alone leaves a point behind is larger."""

JUMP_SLACK = 1e-4
"""Measured step that never counts as a jump, m: noise."""

_ROUNDING = 1e-9


class TrackingModel:
    """Reachable positions of free joints, given the commands; each array (n,) rad."""

    def __init__(self, delay: float, lag: FloatArray, period: float) -> None:
        """Model commands every `period` s, a delay of at most `delay` s, and time constants `lag` (n,) s."""
        self._commands: deque[FloatArray] = deque(maxlen=math.ceil(delay / period - _ROUNDING) + 1)
        # Exact for a command that is constant over a period; a lag of zero gives a gain of 1.
        self._gain = 1.0 - np.exp(-period / np.maximum(lag, 1e-6))

    def reset(self, positions: FloatArray) -> None:
        """Start at rest at `positions`."""
        self._commands.clear()
        self._commands.append(positions)
        self.slowest = positions

    def command(self, positions: FloatArray) -> None:
        """Record the command of one tick."""
        self._commands.append(positions)
        self.slowest = self.slowest + self._gain * (self._commands[0] - self.slowest)

    def residual(self, measured: FloatArray) -> FloatArray:
        """Return the signed distance of `measured` outside the reachable positions of free joints."""
        places = np.vstack([*self._commands, self.slowest])
        return measured - np.clip(measured, places.min(axis=0), places.max(axis=0))


class StallCheck:
    """Compares the commanded with the measured displacement of points of the arm.

    The points are the joint origins and the tools. Joints alone would not be enough: the force on a held tool bends the
    weakest joints, in whichever direction they were commanded.
    """

    def __init__(self, model: pinocchio.Model, tools: Sequence[int], period: float) -> None:
        """Monitor the arms of `model` with the tool frames `tools`, at measurements about `period` s apart."""
        self._model, self._data, self._tools = model, model.createData(), tuple(tools)
        steps = max(math.ceil(STALL_WINDOW / period - _ROUNDING), FEWEST_STEPS)
        self._pairs: deque[tuple[FloatArray, FloatArray]] = deque(maxlen=steps + 1)

    def reset(self) -> None:
        """Drop all measurements."""
        self._pairs.clear()

    def add(self, measured: FloatArray, expected: FloatArray) -> None:
        """Add a measurement (n,) rad, and the position of the slowest free arm, (n,) rad."""
        self._pairs.append((measured, expected))

    @property
    def stalled(self) -> bool:
        """Whether a point of the arm has lagged its command without a jump."""
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
        """Return the positions (n + arms, 3) m of joints and tools, base frame."""
        pinocchio.forwardKinematics(self._model, self._data, np.asarray(q))
        tools = [
            np.array(pinocchio.updateFramePlacement(self._model, self._data, tool).translation) for tool in self._tools
        ]
        return np.array([*(self._data.oMi[i].translation for i in range(1, self._model.njoints)), *tools])
