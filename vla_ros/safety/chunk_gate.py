"""Admission check for chunks: shape, values, action space, age, order, instruction. Nothing is repaired."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from vla_ros.actions.blending import PosePlan
from vla_ros.actions.decoding import PoseTrajectory
from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import ActionGroup, Quantity
from vla_ros.actions.joint_plan import JointPlan
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, decode_chunk
from vla_ros.errors import VlaError
from vla_ros.robot.contract import GripperContract, RobotContract
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.types import ActionChunk, FloatArray, Instruction, InstructionKind, Pose

LARGEST_REACH = 10.0
"""Largest plausible distance from the base, m; beyond it the chunk is broken."""

LARGEST_TURN = 1e3
"""Largest plausible value of a joint column, rad or rad/s; decoded values are checked against the joint's range."""

_RANGE_SLACK = 1.0
"""Tolerance of openings and joint positions beyond their limits, as a multiple of their range: beyond it, the column
must be another one."""


STOP_AHEAD = 1.0
"""Time, s, that the stamp of a stop may be ahead of the sensors' clock: their states and the stop come with delays."""


@dataclass(frozen=True)
class AcceptedPlan:
    """A chunk that may be executed.

    Attributes:
        plan: The motion as a function of the time since the observation.
        chunk: The chunk as received.
        received: Time of receipt, s, steady clock.
        age_at_receipt: Age of the observation at receipt, s, on the sensor's clock.
    """

    plan: PosePlan | JointPlan
    chunk: ActionChunk
    received: float
    age_at_receipt: float


class ChunkGate:
    """Checks chunks one by one, and that they come in order."""

    def __init__(self, contract: RobotContract, parameters: SafetyParameters) -> None:
        """Check against the action space of `contract`."""
        self._space = contract.action
        self._arms = contract.arms
        self._joint_columns = [contract.joint_columns(arm.name) for arm in self._arms]
        self._of_joints = contract.commands_joints
        self._columns = contract.action.columns
        self._joints = contract.joints
        self._parameters = parameters
        self.instruction: Instruction | None = None
        self._task: Instruction | None = None  # the newest task: after a stop, it does not resume
        self.forget_order()

    @property
    def stopped(self) -> bool:
        """Whether the newest instruction is a stop."""
        return self.instruction is not None and self.instruction.kind is InstructionKind.STOP

    def forget_order(self) -> None:
        """Reset the order check, as after a clock jump."""
        self._last_stamp, self._last_sequence = -np.inf, 0
        self._stopped_at = -np.inf  # stamp of the last stop, s: no task from before it resumes

    def receive_instruction(self, instruction: Instruction, sensor_time: float) -> bool:
        """Accept the newest instruction; return False when it is an older one that came late, or a duplicate.

        A lower sequence number with a newer stamp comes from a restarted instruction node.

        Args:
            instruction: Untrusted input.
            sensor_time: Current time of the sensors' clock, s; negative infinity before the first joint state.
        """
        known, task = self.instruction, self._task
        if instruction.kind is InstructionKind.STOP:
            # The stamp of a wrong clock must not reject all tasks until then.
            self.instruction = replace(instruction, stamp=min(instruction.stamp, sensor_time + STOP_AHEAD))
            self._stopped_at = max(self._stopped_at, self.instruction.stamp)
            return True
        if instruction.stamp < self._stopped_at:
            return False
        if task is not None and instruction.stamp <= task.stamp and instruction.sequence <= task.sequence:
            return False
        if known is not None:
            newer = instruction.sequence > known.sequence or (
                instruction.sequence <= known.sequence and instruction.stamp > known.stamp
            )
            if not newer:
                return False
        self.instruction = self._task = instruction
        return True

    def judge(
        self, chunk: ActionChunk, start: ArmStart | Pose, now: float, sensor_time: float
    ) -> AcceptedPlan | Reason:
        """Return the plan, or the reason for the rejection.

        Args:
            chunk: Untrusted input; nothing about it is assumed.
            start: State of the arm at the observation behind the chunk; for a tool-commanded arm the tool pose is
                enough.
            now: Steady clock, s.
            sensor_time: Current time of the sensors' clock, s.
        """
        try:
            reason = self._judge_form(chunk) or self._judge_service(chunk) or self._judge_time(chunk, sensor_time)
            if reason is not None:
                return reason
        except Exception:  # fields of an unexpected type
            return Reason.CHUNK_SHAPE
        try:
            arm = self._arm_start(start)
            if not self._believes(arm):
                return Reason.CHUNK_START
        except Exception:
            return Reason.CHUNK_START
        try:
            plan = self._decode(chunk, arm)
        except (VlaError, ValueError):
            return Reason.CHUNK_ROTATION
        if isinstance(plan, Reason):
            return plan
        self._last_stamp, self._last_sequence = chunk.observation_stamp, chunk.sequence
        return AcceptedPlan(plan, chunk, now, max(sensor_time - chunk.observation_stamp, 0.0))

    def _judge_form(self, chunk: ActionChunk) -> Reason | None:
        actions, space = np.asarray(chunk.actions), self._space
        numbers = (chunk.period, chunk.trust, chunk.observation_stamp, chunk.sequence, chunk.instruction_sequence)
        if actions.dtype.kind not in "fiu" or not all(isinstance(value, Real) for value in numbers):
            return Reason.CHUNK_SHAPE
        if chunk.specification != space.fingerprint:
            return Reason.CHUNK_SPECIFICATION
        if actions.ndim != 2 or not 1 <= len(actions) <= space.horizon:
            return Reason.CHUNK_SHAPE
        if actions.shape[1] != space.width:
            return Reason.CHUNK_SHAPE
        if not (np.isfinite(actions).all() and np.isfinite([chunk.trust, chunk.instruction_sequence]).all()):
            return Reason.CHUNK_NOT_FINITE
        if not all(_plausible(actions[:, self._columns[group.name]], group) for group in space.groups):
            return Reason.CHUNK_OUT_OF_RANGE
        if not abs(chunk.period - space.period) <= 1e-3 * space.period:
            return Reason.CHUNK_PERIOD
        return None

    def _judge_service(self, chunk: ActionChunk) -> Reason | None:
        if not self._parameters.trust.hold <= chunk.trust <= 1.0:
            return Reason.TRUST_LOW
        if self.instruction is None:  # then only a chunk for no instruction (0, ActionChunk.msg) is valid
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

    def _arm_start(self, start: ArmStart | Pose) -> ArmStart:
        positions, pose = (np.zeros(0), start) if isinstance(start, Pose) else (start.joint_positions, start.pose)
        return ArmStart(positions, pose, self._arms[0].gripper.max_opening)

    def _decode(self, chunk: ActionChunk, start: ArmStart) -> PosePlan | JointPlan | Reason:
        if len(self._arms) > 1:
            return self._decode_arms(chunk, start)
        arm = self._arms[0].name
        trajectory = decode_chunk(chunk.actions, self._space, {arm: start})[arm]
        if not (self._in_range(trajectory) and _openings_in_range(trajectory.openings, self._arms[0].gripper)):
            return Reason.CHUNK_OUT_OF_RANGE
        if trajectory.joint_positions is not None:
            return JointPlan(trajectory.joint_positions, trajectory.openings, start.joint_positions, chunk.period)
        if trajectory.positions is None or trajectory.quaternions is None:
            return Reason.CHUNK_SPECIFICATION
        poses = PoseTrajectory(trajectory.positions, trajectory.quaternions, trajectory.openings)
        return PosePlan(poses, start.pose, chunk.period)

    def _decode_arms(self, chunk: ActionChunk, start: ArmStart) -> JointPlan | Reason:
        """Return the plan of all joints in arm order, and of all grippers, for a chunk of several arms."""
        starts = {
            arm.name: ArmStart(start.joint_positions[columns], start.pose, arm.gripper.max_opening)
            for arm, columns in zip(self._arms, self._joint_columns, strict=True)
        }
        found = decode_chunk(chunk.actions, self._space, starts)
        rows, openings = [], []
        for arm in self._arms:
            one = found[arm.name]
            if one.joint_positions is None:
                return Reason.CHUNK_SPECIFICATION
            if not _openings_in_range(one.openings, arm.gripper):
                return Reason.CHUNK_OUT_OF_RANGE
            rows.append(one.joint_positions)
            openings.append(np.full(len(rows[0]), np.nan) if one.openings is None else one.openings)
        positions = np.hstack(rows)
        if not self._in_range(ArmTrajectory(joint_positions=positions)):
            return Reason.CHUNK_OUT_OF_RANGE
        return JointPlan(positions, np.stack(openings, axis=1), start.joint_positions, chunk.period)

    def _believes(self, start: ArmStart) -> bool:
        """Return whether the start is plausible in the quantity that the actions refer to."""
        return self._believes_joints(start.joint_positions) if self._of_joints else _believes_pose(start.pose)

    def _believes_joints(self, positions: FloatArray) -> bool:
        """Return whether joint positions (n,) rad are plausible."""
        joints, slack = self._joints, self._parameters.motion.recoverable_violation
        if np.shape(positions) != joints.lower.shape:
            return False
        return bool(((positions >= joints.lower - slack) & (positions <= joints.upper + slack)).all())

    def _in_range(self, trajectory: ArmTrajectory) -> bool:
        """Return whether all targets are plausible; if not, a column is not what it should be."""
        if trajectory.positions is not None and not (np.abs(trajectory.positions) <= LARGEST_REACH).all():
            return False
        if trajectory.joint_positions is None:
            return True
        lower, upper, rows = self._joints.lower, self._joints.upper, trajectory.joint_positions
        slack = _RANGE_SLACK * (upper - lower)
        return bool(((rows >= lower - slack) & (rows <= upper + slack)).all())


def _openings_in_range(openings: FloatArray | None, gripper: GripperContract) -> bool:
    """Return whether openings (h,) m are plausible for the gripper."""
    if openings is None:
        return True
    widest = gripper.max_opening
    return bool((np.abs(openings - 0.5 * widest) <= widest + _RANGE_SLACK * widest).all())


def _plausible(columns: FloatArray, group: ActionGroup) -> bool:
    """Return whether the columns (h, width) of a group are in a range that can be decoded."""
    if group.quantity is Quantity.GRIPPER:
        full = 100.0 if group.gripper is GripperConvention.OPEN_IS_HUNDRED else 1.0
        return bool((np.abs(columns) <= full * LARGEST_REACH).all())
    most = LARGEST_TURN if group.quantity.of_joints else LARGEST_REACH
    return bool((np.abs(group.to_si(columns)) <= most).all())


def _believes_pose(pose: Pose) -> bool:
    """Return whether a tool pose is plausible."""
    return bool(
        np.isfinite(pose.position).all()
        and np.isfinite(pose.quaternion).all()
        and (np.abs(pose.position) <= LARGEST_REACH).all()
        and abs(np.linalg.norm(pose.quaternion) - 1.0) <= 1e-3
    )
