"""Filters the tool's motion to its target: within workspace, velocity, acceleration and jerk, without overshoot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pinocchio

from vla_ros.actions.blending import PoseTarget
from vla_ros.robot.contract import CartesianContract
from vla_ros.types import FloatArray

ACCELERATION_SHARE, JERK_SHARE = 0.93, 0.75
"""Fractions of the tool limits used by the filter: the joints' curves between two ticks take the rest."""


@dataclass(frozen=True)
class Axes:
    """Limits of three axes as norms: m or rad, per s, s^2 and s^3."""

    velocity: float
    acceleration: float
    jerk: float


class CartesianFilter:
    """Computes the next tool velocity towards a target. Stateless: position and velocity are the executed ones.

    The plan is read `preview` ahead, so that the tool slows down before the plan stops, and the approach speed falls
    with the square root of the distance, so that a fraction of the acceleration is enough to brake.
    """

    def __init__(self, limits: CartesianContract, period: float, gain: float, brake_share: float) -> None:
        """Use `limits` at ticks `period` s apart.

        Args:
            limits: Tool limits.
            period: s.
            gain: Approach gain over short distances, 1/s.
            brake_share: Fraction of the acceleration that the approach relies on for braking.
        """
        self._lower, self._upper = limits.workspace_lower, limits.workspace_upper
        acceleration, jerk = ACCELERATION_SHARE, JERK_SHARE
        self._linear = Axes(
            limits.linear_velocity, acceleration * limits.linear_acceleration, jerk * limits.linear_jerk
        )
        self._angular = Axes(
            limits.angular_velocity, acceleration * limits.angular_acceleration, jerk * limits.angular_jerk
        )
        self._period, self._gain, self._brake_share = period, gain, brake_share
        self._normals = np.vstack([np.eye(3), -np.eye(3)])
        self.preview = 1.0 / gain
        self.brake_preview = 2.0 / gain

    def project(self, target: PoseTarget) -> tuple[PoseTarget, float]:
        """Return the target moved to the nearest point of the workspace, and the distance moved, m.

        Velocity components along a face are kept, those through it are removed.
        """
        position = np.minimum(np.maximum(target.position, self._lower), self._upper)
        moved = position - target.position
        distance = math.sqrt(float(moved @ moved))
        if distance == 0.0:
            return target, 0.0
        linear = np.where(moved == 0.0, target.linear, 0.0)
        return PoseTarget(position, target.rotation, linear, target.angular), distance

    def faces(self, position: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the distances (6,) m from `position` (3,) to the faces, negative outside, and the normals (6, 3)."""
        return np.concatenate([position - self._lower, self._upper - position]), self._normals

    def step(
        self,
        position: FloatArray,
        rotation: FloatArray,
        twist: FloatArray,
        acceleration: FloatArray,
        ahead: PoseTarget,
        later: PoseTarget,
        scale: float,
    ) -> FloatArray:
        """Return the velocity (6,) for the next tick, m/s and rad/s, base frame.

        Args:
            position: (3,) m, executed.
            rotation: (3, 3), executed.
            twist: (6,) executed m/s and rad/s.
            acceleration: (6,) executed m/s^2 and rad/s^2.
            ahead: The plan at `preview` from now, inside the workspace.
            later: The plan at `brake_preview` from now: its velocity still applies after braking.
            scale: Fraction of the allowed speed, 0 to 1.
        """
        way = ahead.position - position - later.linear * self.preview
        turn = np.asarray(pinocchio.log3(ahead.rotation @ rotation.T)) - later.angular * self.preview
        linear = self._advance(way, later.linear, twist[:3], acceleration[:3], self._linear, scale)
        angular = self._advance(turn, later.angular, twist[3:], acceleration[3:], self._angular, scale)
        return np.concatenate([linear, angular])

    def capped(self, velocities: FloatArray, jacobian: FloatArray, twist: FloatArray) -> FloatArray:
        """Scale joint `velocities` (n,) rad/s down uniformly until the tool is within its speed limits.

        Where weak joints use all their acceleration to stop before a face, the tool would otherwise be driven sideways
        too fast.

        Args:
            velocities: (n,) rad/s, from the solver.
            jacobian: (6, n) of the tool.
            twist: (6,) m/s and rad/s, from `step`; above the limits only while the tool is slowing down to them.
        """
        moved = jacobian @ velocities
        share = 1.0
        for axes, part in ((self._linear, slice(3)), (self._angular, slice(3, 6))):
            most, speed = max(axes.velocity, _norm(twist[part])), _norm(moved[part])
            if speed > most:
                share = min(share, most / speed)
        return velocities if share == 1.0 else share * velocities

    def excess_speed(self, target: PoseTarget) -> tuple[float, float]:
        """Return the excess of the plan's own speed over the allowed one, m/s and rad/s; 0 when allowed."""
        return (
            max(0.0, _norm(target.linear) - self._linear.velocity),
            max(0.0, _norm(target.angular) - self._angular.velocity),
        )

    def _advance(
        self,
        error: FloatArray,
        feed: FloatArray,
        velocity: FloatArray,
        acceleration: FloatArray,
        limits: Axes,
        scale: float,
    ) -> FloatArray:
        """Return the next velocity (3,) of three axes: towards feed + approach(error), within the limits."""
        distance = _norm(error)
        wanted = feed
        if distance > 1e-12:
            speed = approach_speed(distance, self._gain, self._brake_share * limits.acceleration)
            wanted = feed + error * (speed / distance)
        highest = scale * limits.velocity
        wanted = _capped(wanted, highest)
        change = wanted - velocity
        size = _norm(change)
        # Ramping an acceleration down in steps of j T adds another a^2 / 2j + a T / 2 of speed: no more than requested.
        half = 0.5 * self._period
        most = min(limits.acceleration, limits.jerk * (math.sqrt(half**2 + 2.0 * size / limits.jerk) - half))
        asked = _capped(change / self._period, most)
        before = _capped(acceleration, limits.acceleration)
        after = before + _capped(asked - before, limits.jerk * self._period)
        reached = velocity + after * self._period
        # The speed limit overrides jerk; after the limit was reduced, the excess is braked off, not cut off.
        return _capped(reached, max(highest, _norm(velocity) - limits.acceleration * self._period))


def approach_speed(distance: float, gain: float, brake: float) -> float:
    """Return a speed from which `distance` suffices to stop: gain * distance when near, its square root when far."""
    near = brake / gain**2
    if distance <= near:
        return gain * distance
    return math.sqrt(brake * (2.0 * distance - near))


def _norm(vector: FloatArray) -> float:
    return math.sqrt(float(vector @ vector))


def _capped(vector: FloatArray, most: float) -> FloatArray:
    """Return `vector`, scaled to length `most` if it is longer."""
    size = _norm(vector)
    return vector if size <= most else vector * (most / size)
