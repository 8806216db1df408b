"""External joint torques from joint measurements, without accelerations.

Generalized-momentum observer (De Luca and Mattone 2003; De Luca et al. 2006; Haddadin, De Luca, Albu-Schaeffer 2017).
With p = M(q) v, the dynamics M a + C v + g = tau + tau_ext become

    dp/dt = tau + tau_ext + C^T v - g
    r     = K (p - p_0 - integral (tau + C^T v - g + r) dt)

so that dr/dt = K (tau_ext - r): r is tau_ext behind a low-pass filter of time constant 1 / K.

The torques are assumed to change linearly between two measurements. Where they jump instead, as after a late command,
the integral is wrong once, and r shows it for several measurements. Inverting the filter separates the two: `newest`
is the external torque of the newest interval alone, which after an error returns to zero or changes its sign.
"""

from __future__ import annotations

import statistics
from collections import deque

import numpy as np
import pinocchio

from vla_ros.errors import ContractError
from vla_ros.types import FloatArray, RobotState

LONGEST_GAP = 0.05
"""Interval between two measurements, s, above which the integral restarts."""

WIDER = 1.5
"""Interval between two measurements, as a multiple of the usual one, above which the integral restarts, too: torques
change within milliseconds, and those in between are unknown."""

REMEMBERED = 9
"""Number of intervals whose median is the usual one."""

DOWN = np.array([0.0, 0.0, -1.0, 0.0, 0.0, 0.0])
"""Wrench (6,) of a unit weight at the tool: force, then moment, base-frame axes."""


class MomentumObserver:
    """Observes one arm; call `update` with every measurement that has efforts."""

    def __init__(self, model: pinocchio.Model, tool: int, time_constant: float) -> None:
        """Use the masses of `model`, with locked fingers.

        Args:
            model: Model of the arm; its gravity points along -z of the base.
            tool: Index of the tool frame.
            time_constant: Time constant of the low-pass filter, s.

        Raises:
            ContractError: when a moving link has no mass: the description has no inertials.
        """
        massless = [
            str(name)
            for name, inertia in zip(list(model.names)[1:], list(model.inertias)[1:], strict=True)
            if not inertia.mass > 0.0
        ]
        if massless:
            raise ContractError(
                f"no mass behind {massless}: write the inertials into the robot description, or 'effort: none' into "
                "the section contact of the robot contract"
            )
        self._model, self._data, self._tool = model, model.createData(), tool
        self._gain = 1.0 / time_constant
        self.reset()

    def reset(self) -> None:
        """Restart with the next measurement; the residual is zero until then.

        While `informed`, the newest interval took `step` s, its motion required the mean joint torques `demanded` (n,)
        N m, and `missing` (n,) of these were not measured.
        """
        self.residual: FloatArray = np.zeros(self._model.nv)
        self.newest: FloatArray = np.zeros(self._model.nv)
        self._stamp = -np.inf
        self._steps: deque[float] = deque(maxlen=REMEMBERED)
        self.informed = False
        self._momentum_offset: FloatArray = np.zeros(self._model.nv)
        self._rate: FloatArray = np.zeros(self._model.nv)
        self._momentum: FloatArray = np.zeros(self._model.nv)
        self._torques: FloatArray = np.zeros(self._model.nv)
        self.step = 0.0
        self.demanded: FloatArray = np.zeros(self._model.nv)
        self.missing: FloatArray = np.zeros(self._model.nv)

    def update(self, state: RobotState) -> FloatArray:
        """Add a measurement with efforts, and return the filtered external torques (n,) N m."""
        if state.joint_efforts is None:
            raise ValueError("the state has no joint efforts; ask before")
        q, v = np.asarray(state.joint_positions), np.asarray(state.joint_velocities)
        pinocchio.computeAllTerms(self._model, self._data, q, v)
        coriolis = pinocchio.computeCoriolisMatrix(self._model, self._data, q, v)
        mass = np.triu(self._data.M) + np.triu(self._data.M, 1).T
        momentum = mass @ v
        rate = state.joint_efforts + coriolis.T @ v - self._data.g
        step = state.stamp - self._stamp
        if 0.0 < step <= LONGEST_GAP:
            self._steps.append(step)
        self.informed = 0.0 < step <= LONGEST_GAP and step <= WIDER * statistics.median(self._steps)
        if self.informed:
            # Trapezoidal rule for the measurements, implicit Euler for the filter: stable at any gain and step.
            self._momentum_offset = self._momentum_offset + 0.5 * step * (rate + self._rate)
            gain, before = self._gain, self.residual
            self.residual = gain * (momentum - self._momentum_offset) / (1.0 + gain * step)
            self.newest = self.residual + (self.residual - before) / (gain * step)
            self._momentum_offset = self._momentum_offset + step * self.residual
            self.step = step
            self.missing = (momentum - self._momentum) / step - 0.5 * (rate + self._rate)
            self.demanded = self.missing + 0.5 * (state.joint_efforts + self._torques)
        elif step != 0.0:  # first measurement, a gap, or a clock that was set: the filter keeps its state
            self._momentum_offset = momentum - self.residual / self._gain
        self._stamp, self._rate = state.stamp, rate
        self._momentum, self._torques = momentum, state.joint_efforts
        return self.residual

    def without_payload(self, q: FloatArray, residual: FloatArray, heaviest: float) -> FloatArray:
        """Return the part of each `residual` (n,) or (k, n) N m that no payload up to `heaviest` kg explains.

        The payload is at the tool, its mass explains as much as possible: min over m in [0, heaviest] of ||r - m g J^T
        (-e_z)||.
        """
        jacobian = pinocchio.computeFrameJacobian(
            self._model, self._data, q, self._tool, pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )
        weight = -float(self._model.gravity.linear[2]) * (jacobian.T @ DOWN)
        size = float(weight @ weight)
        mass = np.clip(residual @ weight / max(size, np.finfo(float).tiny), 0.0, heaviest)
        return np.asarray(residual - np.multiply.outer(mass, weight), dtype=np.float64)
