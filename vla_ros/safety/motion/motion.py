"""One tick of motion: from a tool or joint target to the next joint command, or the known stop.

pose   -> CartesianFilter -> DifferentialIK --+
                                              +-> JointMotion.propose -> Envelope.judge -> JointMotion.accept
joints -> JointFilter -> nearest velocities --+        |                    |
                                   | no solution   not within limits     would break a limit
                                   +-------------------+---------------------+--> JointMotion.brake
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pinocchio

from vla_ros.actions.blending import PoseTarget
from vla_ros.actions.joint_plan import JointTarget
from vla_ros.errors import KinematicsError, VlaError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.differential_ik import DifferentialIK
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.cartesian_filter import CartesianFilter
from vla_ros.safety.motion.collision import Approaches, CollisionModel
from vla_ros.safety.motion.command_trajectory import MARGIN
from vla_ros.safety.motion.envelope import Envelope
from vla_ros.safety.motion.joint_filter import JointFilter, approach_speeds
from vla_ros.safety.motion.joint_motion import HISTORY, TOLERANCE, JointMotion, JointStep, planned_velocity
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.watch.tick_schedule import TickSchedule
from vla_ros.types import FloatArray

STEP_FRACTIONS = (1.0, 0.5, 0.2)
"""Fractions of the requested joint velocity that are tried before the arm brakes."""

BUFFER = 1e-3
"""Additional distance, m, beyond the envelope's required one, at which steering keeps collision pairs."""

EPSILON = 1e-6
"""Tolerance of times, s."""

Target = PoseTarget | JointTarget

_WORKSPACE_REPORT = _JOINT_REPORT = 1e-3
_SPEED_REPORT = 0.02


@dataclass(frozen=True)
class MotionResult:
    """One tick of motion.

    Attributes:
        step: Commanded step.
        wanted: (n,) rad, positions according to filter and solver alone.
        reason: OK, or the most serious correction.
        detail: Measurement behind the reason.
        braked: Whether nothing of the requested motion was possible.
    """

    step: JointStep
    wanted: FloatArray
    reason: Reason
    detail: str
    braked: bool


class TickOverrunError(VlaError):
    """Another thread took the step of the known stop while this tick was computing its own."""


class Motion:
    """Commanded motion of the arm; for one thread at a time, except `watchdog_brake`."""

    def __init__(
        self, contract: RobotContract, parameters: SafetyParameters, kinematics: Kinematics, *, lockstep: bool = False
    ) -> None:
        """Build all stages from the contract's limits; in lockstep every call is the next tick, whatever the clock."""
        self._parameters = parameters
        self._kinematics = kinematics
        self._period = parameters.timing.period
        self._joints = replace(contract.joints, velocity=planned_velocity(contract.joints, self._period))
        motion, ik = parameters.motion, parameters.kinematics
        boxes = [arm.cartesian for arm in contract.arms]
        self._filters = [CartesianFilter(box, self._period, motion.tracking_gain, motion.brake_share) for box in boxes]
        self.filter = self._filters[0]  # tool plans are for one arm only; previews are the same for all
        self._ik = DifferentialIK(
            contract.joints.home,
            damping=ik.damping,
            singular_damping=ik.singular_damping,
            singular_value=ik.singular_value,
            posture_gain=ik.posture_gain,
            iterations=ik.iterations,
        )
        self.joints = JointMotion(self._joints, self._period)
        self._joint_filter = JointFilter(
            self._joints,
            self.joints,
            boxes,
            self._period,
            motion.tracking_gain,
            motion.brake_share,
            motion.joint_margin,
        )
        collision = CollisionModel(contract, parameters.collision, parameters.obstacles)
        # Between two checked points the tool may bend beyond a face by as much again. A tool plan is kept inside; a
        # joint plan may press against the face, so both together must be within the tolerance.
        tolerance = motion.workspace_tolerance * (0.5 if contract.commands_joints else 1.0)
        self._envelope = Envelope(
            contract, kinematics, tolerance, collision if parameters.collision.enabled else None, self._period
        )
        self._braking = [motion.brake_share * box.linear_acceleration for box in boxes]
        self._columns = [contract.joint_columns(arm.name) for arm in contract.arms]
        self._turn = threading.Lock()
        self._overruns = 0
        timing = parameters.timing
        self._schedule = None if lockstep else TickSchedule(timing.period, timing.tick_budget)
        self.behind = False
        self.seed(contract.joints.home)

    def seed(self, positions: FloatArray) -> None:
        """Start at rest at joint positions (n,) rad."""
        self.joints.seed(positions)
        self.resting_first = False
        self._envelope.seed(self.joints.current.positions)
        self._noted = self.joints.current.positions
        self._twist: FloatArray | None = None
        self._stepped = False
        self.placements: tuple[pinocchio.SE3, ...] = self._kinematics.placements(self.joints.current.positions)

    @property
    def placement(self) -> pinocchio.SE3:
        """Tool placement in the base frame; with several arms, that of the first."""
        return self.placements[0]

    def begin_tick(self, now: float) -> int:
        """Allow one step for the tick at `now`, s; return the steps `watchdog_brake` took since the last tick.

        Missed ticks are taken as rows of the known stop: a trajectory controller has followed it meanwhile.
        """
        with self._turn:
            overruns, self._overruns, self._stepped = self._overruns, 0, False
            self.behind = False
            if self._schedule is not None:
                self._catch_up(now, self._schedule)
        return overruns

    def _catch_up(self, now: float, schedule: TickSchedule) -> None:
        joints = self.joints
        self.resting_first = self.resting_first and not joints.resting
        if joints.current.settled:
            joints.schedule(schedule.anchor(now, joints.current.due))
        place = schedule.place(now, joints.current.due)
        for _ in range(min(place.missed, joints.current.ahead.rows + HISTORY)):
            joints.brake()
        if place.missed:
            joints.schedule(place.due)
            self._after_brake()
            self.resting_first = self.resting_first or (place.gap and not joints.resting)
        self._stepped = place.taken
        self.behind = place.late or self.resting_first

    def _after_brake(self) -> None:
        self._twist = None  # a stop exceeds the filter's limits: no basis for the next tick's acceleration
        with contextlib.suppress(Exception):  # bookkeeping can wait for the next tick, the step cannot
            self._note(self.joints.current)

    @property
    def next_tick(self) -> float:
        """Due time of the tick after the last step, s; inf in lockstep."""
        return np.inf if self._schedule is None else self._schedule.next_tick(self.joints.current.due)

    @property
    def taken(self) -> bool:
        """Whether this tick's step, or that of the known stop in its place, has been taken."""
        return self._stepped

    def brake(self) -> JointStep:
        """Follow the stop after the last command; needs no computation that could fail.

        If this tick has already taken its step, the rest of the stop starts with the next tick.

        Raises:
            TickOverrunError: when `watchdog_brake` has taken the step of this tick.
        """
        with self._turn:
            if self._overruns:
                raise TickOverrunError("the step of this tick has been taken")
            if self._stepped:
                return self.joints.current
            self._stepped = True
            step = self.joints.brake()
        self._after_brake()
        return step

    def too_late(self, step: JointStep, now: float) -> bool:
        """Return whether a trajectory with `step` published at `now`, s, would reach its controller too late."""
        return self._schedule is not None and not step.resting and now + MARGIN > step.due - self._period + EPSILON

    def withdraw(self, step: JointStep) -> JointStep:
        """Replace `step` by the next row of the stop known before it, and return that; any other step is kept."""
        with self._turn:
            if self.joints.current.serial != step.serial:
                return self.joints.current
            taken = self.joints.withdraw()
        self._after_brake()
        return taken

    def rest_first(self) -> None:
        """Follow the known stop to its end before anything else; callable from any thread."""
        with self._turn:
            self.resting_first = not self.joints.resting

    def rejoin(self, step: JointStep) -> JointStep:
        """Go on from `step`, the last published one, and return it; a tick that is being computed gets no step."""
        with self._turn:
            self._overruns += 1
            current = self.joints.rejoin(step)
        self._after_brake()
        return current

    def watchdog_brake(self, now: float, sent: int) -> JointStep:
        """Return the command at `now`, s, in place of a tick that does not finish; callable from any thread.

        It is the next due row of the stop. A step already taken, with a serial beyond `sent`, has priority if its
        controller still gets it in time; else a row of the previous stop replaces it. A later result of the tick is
        discarded, since it is too late.
        """
        with self._turn:
            rows = 1
            if self.joints.current.serial > sent:
                if not self.too_late(self.joints.current, now):
                    return self.joints.current
                self.joints.withdraw()
                rows = 0
            missed, due = 0, self.joints.current.due
            if self._schedule is not None:
                place = self._schedule.place(now, due, early=0.0)
                missed, due = place.missed, place.due
                self.resting_first = self.resting_first or (place.gap and not self.joints.resting)
            due, rows = due + rows * self._period, rows + missed
            self._overruns += max(rows, 1)
            self._twist = None
            for _ in range(min(rows, self.joints.current.ahead.rows + HISTORY)):
                self.joints.brake()
            if missed:
                self.joints.schedule(due)
            return self.joints.current

    def follow(self, asked: Target, ahead: Target, later: Target, scale: float) -> MotionResult:
        """Follow a tool or joint plan for one tick.

        Args:
            asked: The plan now, as the policy sent it: corrections are reported relative to it.
            ahead: The plan at `filter.preview` from now.
            later: The plan at `filter.brake_preview` from now.
            scale: Fraction of the allowed speed.
        """
        if isinstance(asked, JointTarget) and isinstance(ahead, JointTarget) and isinstance(later, JointTarget):
            return self._follow_joints(asked, ahead, later, scale)
        if isinstance(asked, PoseTarget) and isinstance(ahead, PoseTarget) and isinstance(later, PoseTarget):
            return self._follow_tool(asked, ahead, later, scale)
        raise TypeError(f"a plan of {type(asked).__name__}, {type(ahead).__name__}, {type(later).__name__}")

    def _follow_joints(self, asked: JointTarget, ahead: JointTarget, later: JointTarget, scale: float) -> MotionResult:
        """Follow a joint plan with the feasible joint velocities nearest to its own."""
        current, track = self.joints.current, self._joint_filter
        jacobian = self._kinematics.jacobians(current.positions)
        reason, detail = self._violated_joint_limit(asked, jacobian)
        wanted = track.step(
            current.positions, current.velocities, jacobian, track.project(ahead)[0], track.project(later)[0], scale
        )
        lower, upper = self._bounds(*self.joints.settling_velocities())
        near = self._envelope.approaches
        rows, slowest = self._inequalities(jacobian, near, float(self.joints.rise_time.max()))
        try:
            velocities = self._ik.nearest(wanted, lower, upper, rows, slowest)
        except KinematicsError as error:
            return MotionResult(self.brake(), current.positions, Reason.SOLVER, f"({error})", True)
        if not ((velocities >= lower) & (velocities <= upper)).all():  # scaling would make invalid values pass
            return MotionResult(self.brake(), current.positions, Reason.RESULT_INVALID, "(of the solver)", True)
        limited, where = self._held_back(velocities, lower, upper, rows, slowest, near)
        if limited is not Reason.OK:
            reason, detail = limited, where
        return self._take(track.capped(velocities, jacobian, scale), reason, detail)

    def _violated_joint_limit(self, asked: JointTarget, jacobian: FloatArray) -> tuple[Reason, str]:
        """Return the limit of joints or tool that the plan itself violates, and by how much."""
        beyond = self._joint_filter.project(asked)[1] - self._parameters.motion.joint_margin
        worst = int(np.argmax(beyond))
        if beyond[worst] > _JOINT_REPORT:
            return Reason.JOINT_POSITION, f"({self._joints.names[worst]}, {beyond[worst]:.3f} rad beyond its limit)"
        places = self._kinematics.placements(asked.positions)
        if (outside := float(-self._rooms(places).min())) > _WORKSPACE_REPORT:
            return Reason.WORKSPACE, f"({1e3 * outside:.0f} mm)"
        joints, linear, angular = self._joint_filter.excess_speed(asked, jacobian)
        worst = int(np.argmax(joints))
        if joints[worst] > _SPEED_REPORT:
            return Reason.JOINT_VELOCITY, f"({self._joints.names[worst]}, by {joints[worst]:.2f} rad/s)"
        if linear > _SPEED_REPORT:
            return Reason.LINEAR_VELOCITY, f"(by {linear:.2f} m/s)"
        if angular > _SPEED_REPORT:
            return Reason.ANGULAR_VELOCITY, f"(by {angular:.2f} rad/s)"
        return Reason.OK, ""

    def _follow_tool(self, asked: PoseTarget, ahead: PoseTarget, later: PoseTarget, scale: float) -> MotionResult:
        """Follow a tool plan."""
        current = self.joints.current
        jacobian = self._kinematics.jacobians(current.positions)
        twist = jacobian @ current.velocities
        acceleration = np.zeros(6) if self._twist is None else (twist - self._twist) / self._period
        self._twist = twist
        filtered = self.filter.step(
            np.asarray(self.placement.translation),
            np.asarray(self.placement.rotation),
            twist,
            acceleration,
            self.filter.project(ahead)[0],
            self.filter.project(later)[0],
            scale,
        )
        reason, detail = self._violated_tool_limit(asked)
        try:
            velocities, limited, where = self._velocities(jacobian, filtered)
        except KinematicsError as error:
            return MotionResult(self.brake(), current.positions, Reason.SOLVER, f"({error})", True)
        # Before any scaling, which would make invalid values pass.
        if not (np.abs(velocities) <= self._joints.velocity * (1.0 + TOLERANCE)).all():
            return MotionResult(self.brake(), current.positions, Reason.RESULT_INVALID, "(of the solver)", True)
        if limited is not Reason.OK:
            reason, detail = limited, where
        return self._take(self.filter.capped(velocities, jacobian, filtered), reason, detail)

    def retrace(self, velocities: FloatArray) -> JointStep:
        """Move one tick with joint velocities (n,) rad/s from outside of a plan, as far as the envelope allows."""
        self._twist = None
        return self._take(velocities, Reason.CONTACT, "").step

    def _violated_tool_limit(self, asked: PoseTarget) -> tuple[Reason, str]:
        """Return the limit of the tool that the plan itself violates, and by how much."""
        _, beyond = self.filter.project(asked)
        if beyond > _WORKSPACE_REPORT:
            return Reason.WORKSPACE, f"({1e3 * beyond:.0f} mm)"
        too_fast, turns_too_fast = self.filter.excess_speed(asked)
        if too_fast > _SPEED_REPORT:
            return Reason.LINEAR_VELOCITY, f"(by {too_fast:.2f} m/s)"
        if turns_too_fast > _SPEED_REPORT:
            return Reason.ANGULAR_VELOCITY, f"(by {turns_too_fast:.2f} rad/s)"
        return Reason.OK, ""

    def _velocities(self, jacobian: FloatArray, twist: FloatArray) -> tuple[FloatArray, Reason, str]:
        """Return joint velocities (n,) within their bounds, and the bound that changed the motion."""
        current, limit, reachable = self.joints.current, self._joints.velocity, self.joints.reachable
        lower, upper = self._bounds(current.velocities - reachable, current.velocities + reachable)
        near = self._envelope.approaches
        rows, slowest = self._inequalities(jacobian, near)
        solution = self._ik.solve(current.positions, jacobian, twist, lower, upper, rows, slowest)
        fastest = float(np.max(np.abs(solution.velocities) / limit))
        reason, where = Reason.OK, ""
        if fastest >= 1.0 - 1e-6:  # scale the whole motion to keep its direction
            free = self._ik.solve(current.positions, jacobian, twist, -1e3 * limit, 1e3 * limit).velocities
            share = 1.0 / max(float(np.max(np.abs(free) / limit)), 1.0)
            solution = self._ik.solve(current.positions, jacobian, share * twist, lower, upper, rows, slowest)
            name = self._joints.names[int(np.argmax(np.abs(free) / limit))]
            reason, where = Reason.JOINT_VELOCITY, f"({name}, scaled to {share:.2f})"
        limited, place = self._held_back(solution.velocities, lower, upper, rows, slowest, near)
        if limited is not Reason.OK:
            reason, where = limited, place
        if solution.damped and limited is not Reason.JOINT_POSITION:
            reason, where = Reason.SINGULARITY, f"(smallest singular value {solution.smallest_singular_value:.3f})"
        return solution.velocities, reason, where

    def _held_back(
        self,
        velocities: FloatArray,
        lower: FloatArray,
        upper: FloatArray,
        rows: FloatArray,
        slowest: FloatArray,
        near: Approaches,
    ) -> tuple[Reason, str]:
        """Return the joint limit or near pair that limits `velocities` (n,), or OK."""
        if at_limit := self._blocked(velocities, lower, upper):
            return Reason.JOINT_POSITION, f"({at_limit})"
        held = np.flatnonzero((rows @ velocities <= slowest + 1e-4) & (slowest > -_SPEED_REPORT))
        if len(held) and held[0] < len(near.pairs):
            return near.pairs[int(held[0])].reason, f"({near.pairs[int(held[0])].name})"
        return Reason.OK, ""

    def _inequalities(self, jacobian: FloatArray, near: Approaches, lag: float = 0.0) -> tuple[FloatArray, FloatArray]:
        """Return rows (m, n) and lower bounds of `rows @ v` (m,): limits on approach speeds, pairs first, then faces.

        The decrease of a distance within `lag` s, until braking takes effect, is already subtracted from it.
        """
        faces = [
            one.faces(np.asarray(place.translation)) for one, place in zip(self._filters, self.placements, strict=True)
        ]
        left = np.concatenate([near.clearances - BUFFER, *(room for room, _ in faces)])
        slopes = [normals @ jacobian[6 * arm : 6 * arm + 3] for arm, (_, normals) in enumerate(faces)]
        rows = np.vstack([near.rows, *slopes])
        if lag > 0.0:
            left = left + lag * np.minimum(rows @ self.joints.current.velocities, 0.0)
        # Below zero distance, the bound is a speed away again: a bound of zero would prevent sliding along the limit.
        back = np.clip(-left, 0.0, np.where(np.arange(len(left)) < len(near.clearances), BUFFER, np.inf))
        # A pair relies only on the braking of the weakest tool.
        braking = [np.full(len(near.clearances), min(self._braking)), *(np.full(6, one) for one in self._braking)]
        slowest = self._parameters.motion.tracking_gain * back - self._approach(left, np.concatenate(braking))
        return rows, slowest

    def _rooms(self, places: Sequence[pinocchio.SE3]) -> FloatArray:
        """Return the distance to each workspace face, (6 * arms,) m, with the tools at `places`."""
        return np.concatenate(
            [one.faces(np.asarray(place.translation))[0] for one, place in zip(self._filters, places, strict=True)]
        )

    def _bounds(self, least: FloatArray, most: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the joint velocity bounds (n,): by speed limit, reachable change per tick, and distance to the limits.

        Args:
            least: (n,) rad/s, lowest velocities that a tick can reach.
            most: (n,) rad/s, highest velocities.
        """
        current, joints = self.joints.current, self._joints
        margin = self._parameters.motion.joint_margin
        lower = np.maximum(-joints.velocity, least)
        upper = np.minimum(joints.velocity, most)
        brake = self._parameters.motion.brake_share * joints.acceleration
        self._near_lower = -self._approach(current.positions - joints.lower - margin, brake)
        self._near_upper = self._approach(joints.upper - margin - current.positions, brake)
        # What a tick can reach has priority: an unreachable bound is approached as fast as possible.
        return (
            np.minimum(np.maximum(lower, self._near_lower), upper),
            np.maximum(np.minimum(upper, self._near_upper), lower),
        )

    def _approach(self, distance: FloatArray, brake: FloatArray | float) -> FloatArray:
        """Return the speed at which a limit `distance` away may be approached: `approach_speed` for arrays."""
        return approach_speeds(distance, self._parameters.motion.tracking_gain, brake)

    def _blocked(self, velocities: FloatArray, lower: FloatArray, upper: FloatArray) -> str:
        """Return the name of a joint held back by its position limit, or ""."""
        limit = self._joints.velocity
        low = (velocities <= lower + 1e-9) & (self._near_lower > -0.5 * limit) & (lower == self._near_lower)
        high = (velocities >= upper - 1e-9) & (self._near_upper < 0.5 * limit) & (upper == self._near_upper)
        hit = np.flatnonzero(low | high)
        return self._joints.names[int(hit[0])] if len(hit) else ""

    def _take(self, velocities: FloatArray, reason: Reason, detail: str) -> MotionResult:
        """Command the largest fraction of `velocities` that the envelope accepts, or brake."""
        wanted = self.joints.current.positions + self._period * velocities
        refused, where = Reason.RESULT_INVALID, ""
        for share in STEP_FRACTIONS:
            step = self.joints.propose(share * velocities)
            if step is None:
                continue
            verdict, place = self._envelope.judge(step)
            if verdict is Reason.OK:
                step = self._accept(step)
                self._note(step)
                if share < 1.0:
                    return MotionResult(step, wanted, refused, where, False)
                return MotionResult(step, wanted, reason, detail, False)
            if share == 1.0:
                refused, where = verdict, place
        return MotionResult(self.brake(), wanted, refused, where, True)

    def _accept(self, step: JointStep) -> JointStep:
        with self._turn:
            if self._overruns:
                raise TickOverrunError("the step was ready too late")
            self._stepped = True
            return self.joints.accept(step)

    def margins(self) -> dict[str, float]:
        """Return the margin of the last command to each limit; names and units as in SafetyStatus.msg."""
        current, joints = self.joints.current, self._joints
        position = np.minimum(current.positions - joints.lower, joints.upper - current.positions)
        jacobians, columns = self._kinematics.jacobians(current.positions), self._columns
        singular = min(
            float(np.linalg.svd(jacobians[6 * arm : 6 * arm + 6, own], compute_uv=False)[-1])
            for arm, own in enumerate(columns)
        )
        return {
            "joint_position": float(position.min()),
            "joint_velocity": float(1.0 - (np.abs(current.velocities) / joints.velocity).max()),
            "workspace": float(self._rooms(self.placements).min()),
            **self._envelope.clearances(),
            "singularity": singular - self._parameters.kinematics.singular_value,
        }

    def _note(self, step: JointStep) -> None:
        if np.array_equal(step.positions, self._noted):
            return  # nothing changes while the arm is held
        self._noted = step.positions
        self._envelope.advance(step.positions)
        self.placements = self._kinematics.placements(step.positions)
