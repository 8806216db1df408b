"""Differential inverse kinematics: damped least squares with bounds, as a quadratic program in the joint velocities.

    minimize    |W (J v - t)|^2 + (v - p)' D (v - p)       (Nakamura and Hanafusa 1986; Maciejewski and Klein 1988)
    subject to  lower <= v <= upper,  G v >= g where the bounds leave room for it

J is the tool Jacobian, t the tool velocity, p a posture velocity towards home. D is a small multiple of the identity,
so that p acts in the null space of the task; D grows only along a direction in which the tool cannot move. So v stays
bounded at a singularity, all other directions stay free, and the pull towards home leads out of the singularity.
"""

from __future__ import annotations

from dataclasses import dataclass

import daqp
import numpy as np

from vla_ros.errors import KinematicsError
from vla_ros.types import FloatArray

LEVER = 0.3
"""Length that scales rotation against translation, m: 1 rad weighs as much as the arc of a point this far off axis."""

SINGULAR_PULL = 0.2
"""Fraction of the posture velocity kept along a singular direction: with 0 leaving a singularity takes seconds, with 1
the arm oscillates in and out of it."""

POSTURE_SPEED = 0.3
"""Maximum posture velocity of one joint towards home, rad/s."""

NOTICEABLE = 0.1
"""Fraction of the requested velocity that damping may take without being reported."""

_OPTIMAL, _SOFT_OPTIMAL, _SOFT = 1, 2, 8


@dataclass(frozen=True)
class VelocitySolution:
    """Joint velocities and diagnostics of the solution.

    Attributes:
        velocities: (n,) rad/s.
        smallest_singular_value: Of the weighted Jacobian; near 0 at a singularity.
        damped: Whether singularity damping was active and took a noticeable part of the motion.
    """

    velocities: FloatArray
    smallest_singular_value: float
    damped: bool


class DifferentialIK:
    """Solves one step; stateless between steps."""

    def __init__(
        self,
        home: FloatArray,
        *,
        damping: float,
        singular_damping: float,
        singular_value: float,
        posture_gain: float,
        iterations: int,
    ) -> None:
        """Configure the solver.

        Args:
            home: (n,) rad, posture that the null-space motion tends to.
            damping: Damping factor away from singularities.
            singular_damping: Additional damping factor at a singularity.
            singular_value: Singular value below which the damping grows.
            posture_gain: 1/s.
            iterations: Iteration limit of the quadratic program.
        """
        self._home = np.asarray(home, dtype=np.float64)
        self._damping, self._singular_damping = damping, singular_damping
        self._singular_value, self._posture_gain = singular_value, posture_gain
        self._iterations = iterations
        self._weights = np.array([1.0, 1.0, 1.0, LEVER, LEVER, LEVER])
        self._identity = np.eye(len(self._home))

    def solve(
        self,
        q: FloatArray,
        jacobian: FloatArray,
        twist: FloatArray,
        lower: FloatArray,
        upper: FloatArray,
        rows: FloatArray | None = None,
        row_lower: FloatArray | None = None,
    ) -> VelocitySolution:
        """Return the joint velocities that best realize `twist`.

        Args:
            q: (n,) rad.
            jacobian: (6, n), linear rows first, base frame.
            twist: (6,) m/s and rad/s, base frame.
            lower: (n,) rad/s.
            upper: (n,) rad/s.
            rows: (m, n) soft inequalities, `rows @ v >= row_lower`, subordinate to the bounds; None for none.
            row_lower: (m,).

        Raises:
            KinematicsError: when an input is not finite or no solution was found within the iteration limit.
        """
        weighted = jacobian * self._weights[:, None]
        task = weighted.T @ (self._weights * twist)
        gram = weighted.T @ weighted
        if not (np.isfinite(gram).all() and np.isfinite(task).all() and np.isfinite(q).all()):
            raise KinematicsError("the tool velocity, the Jacobian or the joints are not finite")
        # The largest eigenvalues of the Gram matrix are the squared singular values; a 6-row task has at most 6.
        values, directions = np.linalg.eigh(gram)
        first = max(len(values) - 6, 0)
        singular_values = np.sqrt(np.maximum(values[first:], 0.0))
        shares = np.maximum(0.0, 1.0 - singular_values / self._singular_value)
        directions = directions[:, first:]
        damping = self._damping**2 * self._identity
        damping += (directions * (shares * self._singular_damping) ** 2) @ directions.T
        posture = np.clip(self._posture_gain * (self._home - q), -POSTURE_SPEED, POSTURE_SPEED)
        pull = SINGULAR_PULL * (damping @ posture) + (1.0 - SINGULAR_PULL) * self._damping**2 * posture
        velocities = self._program(gram + damping, -(task + pull), lower, upper, rows, row_lower)
        lost = float(np.linalg.norm(weighted @ velocities - self._weights * twist))
        noticeable = NOTICEABLE * float(np.linalg.norm(self._weights * twist)) + 1e-3
        return VelocitySolution(velocities, float(singular_values[0]), bool(shares.any()) and lost > noticeable)

    def nearest(
        self, wanted: FloatArray, lower: FloatArray, upper: FloatArray, rows: FloatArray, row_lower: FloatArray
    ) -> FloatArray:
        """Return the joint velocities (n,) rad/s nearest to `wanted` (n,), in joint space; arguments as in `solve`.

        Raises:
            KinematicsError: when `wanted` is not finite or no solution was found within the iteration limit.
        """
        if not np.isfinite(wanted).all():
            raise KinematicsError("the wanted joint velocities are not finite")
        return self._program(self._identity, -wanted, lower, upper, rows, row_lower)

    def _program(
        self,
        hessian: FloatArray,
        linear: FloatArray,
        lower: FloatArray,
        upper: FloatArray,
        rows: FloatArray | None,
        row_lower: FloatArray | None,
    ) -> FloatArray:
        if rows is None or row_lower is None:
            rows, row_lower = np.zeros((0, len(lower))), np.zeros(0)
        bounds_up = np.concatenate([upper, np.full(len(row_lower), 1e30)])
        bounds_low = np.concatenate([lower, row_lower])
        sense = np.zeros(len(bounds_up), dtype=np.intc)
        sense[len(lower) :] = _SOFT
        velocities, _, flag, _ = daqp.solve(
            hessian, linear, np.ascontiguousarray(rows), bounds_up, bounds_low, sense, iter_limit=self._iterations
        )
        velocities = np.asarray(velocities, dtype=np.float64)
        if flag not in (_OPTIMAL, _SOFT_OPTIMAL) or not np.isfinite(velocities).all():
            raise KinematicsError(f"the quadratic program ended with flag {flag}, expected {_OPTIMAL}")
        # The solver satisfies the bounds only to its tolerance; clip to satisfy them exactly.
        return np.asarray(np.clip(velocities, lower, upper), dtype=np.float64)
