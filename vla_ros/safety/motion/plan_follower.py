"""Execution of the current plan: its clock and age, blending from the previous plan, and its end."""

from __future__ import annotations

import numpy as np
import pinocchio

from vla_ros.actions.blending import Blend, PoseTarget
from vla_ros.actions.joint_plan import JointBlend, JointPlan, JointTarget
from vla_ros.safety.chunk_gate import AcceptedPlan
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray


class PlanFollower:
    """Holds at most one plan. Its clock is the sensors', its deadlines run on the steady clock."""

    def __init__(self, parameters: SafetyParameters) -> None:
        """Start without a plan."""
        self._timing, self._trust = parameters.timing, parameters.trust
        self._slowest = parameters.motion.slow_speed
        self.drop()

    def drop(self) -> None:
        """Drop the plan, and restart counting chunks."""
        self.accepted: AcceptedPlan | None = None
        self._blend: Blend | None = None
        self._joint_blend: JointBlend | None = None
        self._blend_start = self._elapsed = 0.0
        self._in_row = 0

    def take(self, accepted: AcceptedPlan) -> None:
        """Switch to another plan; `begin` sets where from."""
        self.accepted, self._elapsed, self._blend, self._joint_blend = accepted, 0.0, None, None
        self._in_row += 1

    def begin(self, placement: pinocchio.SE3, positions: FloatArray, sensor_time: float) -> None:
        """Start blending from the executed tool placement, or joint positions (n,) rad, to the plan."""
        if self.accepted is None:
            return
        self._blend_start = self.advance(sensor_time)
        first, duration = self._at(0.0), self._timing.blend_time
        if isinstance(first, JointTarget):
            self._joint_blend = JointBlend(positions, first, duration)
        else:
            self._blend = Blend(np.array(placement.translation), np.array(placement.rotation), first, duration)

    @property
    def primed(self) -> bool:
        """Whether enough consecutive valid chunks have been received to start."""
        return self.accepted is not None and self._in_row >= self._timing.resume_chunks

    def advance(self, sensor_time: float) -> float:
        """Advance the plan's clock to `sensor_time`, s, never backwards; return the time since the observation, s."""
        if self.accepted is not None:
            self._elapsed = max(self._elapsed, sensor_time - self.accepted.chunk.observation_stamp)
        return self._elapsed

    def age(self, now: float) -> float | None:
        """Return the age of the observation, s: by the sensors' clock until receipt, by the steady clock afterwards."""
        return None if self.accepted is None else self.accepted.age_at_receipt + (now - self.accepted.received)

    def fault(self, now: float) -> tuple[Reason, str]:
        """Return why the plan must not be followed any longer at `now`, s, steady clock, or OK."""
        timing, age = self._timing, self.age(now)
        if self.accepted is None or age is None:
            return Reason.CHUNK_STALE, ""
        silence = now - self.accepted.received
        if not 0.0 <= silence <= timing.chunk_timeout:
            return Reason.CHUNK_STALE, f"(for {silence:.2f} s)"
        if not age <= timing.observation_hold_age:
            return Reason.CHUNK_TOO_OLD, f"({age:.2f} s)"
        duration = self.accepted.plan.duration
        if not self._elapsed <= duration + timing.exhausted_grace:
            return Reason.CHUNK_EXHAUSTED, f"(after {duration:.2f} s)"
        return Reason.OK, ""

    def margins(self, now: float) -> dict[str, float]:
        """Return the time, s, until the policy's silence and the observation's age make the arm hold."""
        age = self.age(now)
        if self.accepted is None or age is None:
            return {}
        timing = self._timing
        return {
            "chunk": timing.chunk_timeout - (now - self.accepted.received),
            "observation": timing.observation_hold_age - age,
        }

    def speed_scale(self, now: float) -> tuple[float, Reason, str]:
        """Return the fraction of the allowed speed at `now`, and why it is below 1."""
        timing, age = self._timing, self.age(now)
        if self.accepted is None or age is None:
            return 0.0, Reason.CHUNK_STALE, ""
        trust = self.accepted.chunk.trust
        by_trust = max(min(trust / self._trust.slow, 1.0), self._slowest)
        span = timing.observation_hold_age - timing.observation_slow_age
        late = min(max((age - timing.observation_slow_age) / span, 0.0), 1.0)
        by_age = 1.0 - (1.0 - self._slowest) * late
        if by_age < 1.0 and by_age <= by_trust:
            return by_age, Reason.OBSERVATION_AGEING, f"({age:.2f} s)"
        if by_trust < 1.0:
            return by_trust, Reason.TRUST_REDUCED, f"(trust {trust:.2f})"
        return 1.0, Reason.OK, ""

    def asked(self) -> PoseTarget | JointTarget:
        """Return the policy's current target, as sent."""
        return self._at(0.0)

    def target(self, ahead: float) -> PoseTarget | JointTarget:
        """Return the target for `ahead` s from now, blended with the previous motion."""
        target, since = self._at(ahead), self._elapsed - self._blend_start
        if isinstance(target, JointTarget):
            return target if self._joint_blend is None else self._joint_blend.apply(target, since)
        return target if self._blend is None else self._blend.apply(target, since)

    def openings(self) -> tuple[float | None, ...]:
        """Return each arm's current gripper target, m, None where there is none; () without a plan."""
        if self.accepted is None:
            return ()
        plan, elapsed = self.accepted.plan, self._elapsed + self._timing.actuation_delay
        return plan.openings_of_arms(elapsed) if isinstance(plan, JointPlan) else (plan.opening(elapsed),)

    def _at(self, ahead: float) -> PoseTarget | JointTarget:
        if self.accepted is None:
            raise RuntimeError("there is no plan to read")
        return self.accepted.plan.target(self._elapsed + self._timing.actuation_delay + ahead)
