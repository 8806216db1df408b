"""Which chunks may move the arm: shape, numbers, specification, age, order, instruction. Nothing is repaired."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.actions.blending import PosePlan
from vla_ros.actions.decoding import decode
from vla_ros.errors import VlaError
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.types import ActionChunk, Instruction, InstructionKind, Pose

LARGEST_REACH = 10.0
"""A place further from the base than this, m, is no place for an arm but the sign of a broken chunk."""

_OPENING_SLACK = 1.0
"""Openings beyond the gripper's by more than its whole range say that the column is something else."""


@dataclass(frozen=True)
class AcceptedPlan:
    """A chunk that may be followed.

    Attributes:
        plan: As a function of the time since the observation.
        chunk: As it came.
        received: When, s, steady clock.
        age_at_receipt: Age of the observation then, s, on the sensor's clock.
    """

    plan: PosePlan
    chunk: ActionChunk
    received: float
    age_at_receipt: float


class ChunkGate:
    """Judges chunks one after the other, and remembers the order that they must come in."""

    def __init__(self, contract: RobotContract, parameters: SafetyParameters) -> None:
        """Judge by the action specification of `contract`."""
        self._specification = contract.action
        self._gripper = contract.gripper
        self._parameters = parameters
        self.instruction: Instruction | None = None
        self.forget_order()

    @property
    def stopped(self) -> bool:
        """Say whether the newest instruction is an order to stop."""
        return self.instruction is not None and self.instruction.kind is InstructionKind.STOP

    def forget_order(self) -> None:
        """Let chunks start afresh, as after a jump of the clock."""
        self._last_stamp, self._last_sequence = -np.inf, 0

    def receive_instruction(self, instruction: Instruction) -> bool:
        """Take the newest instruction; False when it is an old one that came late, or one that is known.

        A lower number with a newer stamp comes from an instruction node that was started again.
        """
        known = self.instruction
        if known is not None and instruction.kind is not InstructionKind.STOP:
            newer = instruction.sequence > known.sequence or (
                instruction.sequence <= known.sequence and instruction.stamp > known.stamp
            )
            if not newer:
                return False
        self.instruction = instruction
        return True

    def judge(self, chunk: ActionChunk, start: Pose, now: float, sensor_time: float) -> AcceptedPlan | Reason:
        """Return the plan, or why there is none.

        Args:
            chunk: Anything; nothing about it is believed.
            start: End-effector pose of the observation behind it.
            now: Steady clock, s.
            sensor_time: Clock of the sensors now, s.
        """
        try:
            reason = self._judge_form(chunk) or self._judge_service(chunk) or self._judge_time(chunk, sensor_time)
            if reason is not None:
                return reason
        except Exception:  # fields of another kind than was promised
            return Reason.CHUNK_SHAPE
        try:
            plan = self._decode(chunk, start)
        except (VlaError, ValueError):
            return Reason.CHUNK_ROTATION
        if isinstance(plan, Reason):
            return plan
        self._last_stamp, self._last_sequence = chunk.observation_stamp, chunk.sequence
        return AcceptedPlan(plan, chunk, now, max(sensor_time - chunk.observation_stamp, 0.0))

    def _judge_form(self, chunk: ActionChunk) -> Reason | None:
        actions, specification = np.asarray(chunk.actions), self._specification
        if chunk.specification != specification.fingerprint:
            return Reason.CHUNK_SPECIFICATION
        if actions.ndim != 2 or not 1 <= len(actions) <= specification.horizon:
            return Reason.CHUNK_SHAPE
        if actions.shape[1] != specification.width:
            return Reason.CHUNK_SHAPE
        if not (np.isfinite(actions).all() and np.isfinite(chunk.trust)):
            return Reason.CHUNK_NOT_FINITE
        if not (np.abs(actions) <= LARGEST_REACH).all():
            return Reason.CHUNK_OUT_OF_RANGE
        if not abs(chunk.period - specification.period) <= 1e-3 * specification.period:
            return Reason.CHUNK_PERIOD
        return None

    def _judge_service(self, chunk: ActionChunk) -> Reason | None:
        if not self._parameters.trust.hold <= chunk.trust <= 1.0:
            return Reason.TRUST_LOW
        if self.instruction is None:  # nothing was asked for: only a plan that says so (ActionChunk.msg) is none's
            return None if chunk.instruction_sequence == 0 else Reason.INSTRUCTION_UNKNOWN
        if chunk.instruction_sequence < self.instruction.sequence:
            return Reason.INSTRUCTION_OLD
        if chunk.instruction_sequence > self.instruction.sequence:
            return Reason.INSTRUCTION_UNKNOWN
        return Reason.INSTRUCTION_STOP if self.stopped else None

    def _judge_time(self, chunk: ActionChunk, sensor_time: float) -> Reason | None:
        timing, stamp = self._parameters.timing, chunk.observation_stamp
        if not stamp > 0.0:
            return Reason.CHUNK_STAMP_ZERO
        if not stamp <= sensor_time + timing.future_tolerance:
            return Reason.CHUNK_STAMP_FUTURE
        if not sensor_time - stamp <= timing.observation_hold_age:
            return Reason.CHUNK_TOO_OLD
        if stamp < self._last_stamp:
            return Reason.CHUNK_OUT_OF_ORDER
        if stamp == self._last_stamp and chunk.sequence <= self._last_sequence:
            return Reason.CHUNK_DUPLICATE
        return None

    def _decode(self, chunk: ActionChunk, start: Pose) -> PosePlan | Reason:
        if not (np.isfinite(start.position).all() and np.isfinite(start.quaternion).all()):
            return Reason.CHUNK_START
        if (
            not (np.abs(start.position) <= LARGEST_REACH).all()
            or not abs(np.linalg.norm(start.quaternion) - 1.0) <= 1e-3
        ):
            return Reason.CHUNK_START
        trajectory = decode(chunk.actions, self._specification, start, self._gripper.max_opening)
        if not (np.abs(trajectory.positions) <= LARGEST_REACH).all():
            return Reason.CHUNK_OUT_OF_RANGE
        if trajectory.openings is not None:
            slack = _OPENING_SLACK * self._gripper.max_opening
            if not (
                np.abs(trajectory.openings - 0.5 * self._gripper.max_opening) <= self._gripper.max_opening + slack
            ).all():
                return Reason.CHUNK_OUT_OF_RANGE
        return PosePlan(trajectory, start, chunk.period)
