"""The control thread's work: newest messages into the supervisor, its decision out as commands and status."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from rclpy.clock import Clock
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.errors import ChunkError, InstructionError, ObservationError
from vla_ros.msg import ActionChunk, SafetyStatus
from vla_ros.nodes.conversions import (
    joint_state_to_robot_state,
    message_to_chunk,
    message_to_instruction,
    seconds_to_stamp,
)
from vla_ros.nodes.safety_inputs import Inputs
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.estop import EstopSignal
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import Counters, SafetySupervisor
from vla_ros.types import Pose, SafetyDecision, SafetyState

STATUS_PERIOD = 0.05
"""At least so often the status goes out, s."""

COMMAND_HORIZON = 1.5
"""Ticks that the controller gets to reach a command: the next one comes before it has come to rest, also a bit late."""

LOCKSTEP_LATENCY = 0.03
"""In lock step a chunk counts from so long after its observation, s, whenever it came within that time: the same run
again is then the same run, whatever the order in which two processes were served."""


class SafetyControl:
    """One supervisor with its messages. For the control thread alone, but for `inputs`, `estop` and `take_notes`."""

    def __init__(
        self,
        contract: RobotContract,
        parameters: SafetyParameters,
        *,
        publish_arm: Callable[[JointTrajectory], None],
        publish_gripper: Callable[[JointTrajectory], None],
        publish_status: Callable[[SafetyStatus], None],
        clock: Clock,
        estop_timeout: float,
        lockstep: bool,
    ) -> None:
        """Build the supervisor; disarmed."""
        self._contract, self._parameters = contract, parameters
        self._publish_arm, self._publish_gripper = publish_arm, publish_gripper
        self._publish_status = publish_status
        self._clock, self._lockstep = clock, lockstep
        self._supervisor = SafetySupervisor(contract, parameters)
        self.period = self._supervisor.period
        self.inputs = Inputs()
        self.estop = EstopSignal(estop_timeout)
        self.durations: deque[float] = deque(maxlen=1000)
        self.lockstep_time = 0.0
        self.sentence = Reason.DISARMED.sentence
        self._notes: deque[str] = deque(maxlen=32)
        self._pressed = False
        self._status_due = 0.0
        self._told: tuple[SafetyState, str] | None = None
        self._answered: tuple[float, SafetyDecision] | None = None

    @property
    def state(self) -> SafetyState:
        """State of the supervisor."""
        return self._supervisor.state

    @property
    def resting(self) -> bool:
        """Say whether the commanded motion is at rest."""
        return self._supervisor.resting

    @property
    def counters(self) -> Counters:
        """What the supervisor counted."""
        return self._supervisor.counters

    def note(self, line: str) -> None:
        """Leave a line for the log; a full queue loses the oldest."""
        self._notes.append(line)

    def take_notes(self) -> list[str]:
        """Return what there is to log; any thread."""
        notes = []
        while self._notes:
            notes.append(self._notes.popleft())
        return notes

    def arm(self, now: float) -> str:
        """Arm; returns "" or a sentence that says why not."""
        return self._explain(self._supervisor.arm(now))

    def disarm(self, now: float) -> None:
        """Bring the arm to rest, then disarm."""
        self._supervisor.disarm(now)

    def reset(self, now: float) -> str:
        """Leave the emergency stop; returns "" or a sentence that says why not."""
        return self._explain(self._supervisor.reset(now))

    def _explain(self, answer: str) -> str:
        return "" if answer == Reason.OK.label else f"{answer}: {Reason(answer).sentence}"

    def lockstep_tick(self, now: float) -> None:
        """Tick at the stamp of a joint state; one that comes again is answered again, and nothing else happens."""
        self.lockstep_time = now
        if self._answered is not None and self._answered[0] == now and self._answered[1].joint_positions is not None:
            self._command(self._answered[1], now)
            return
        self._answered = (now, self.tick(now))

    def tick(self, now: float) -> SafetyDecision:
        """Do all of one period: inputs, decision, commands, status."""
        began = time.perf_counter()
        self._take_estop(now)
        self._take_instructions(now)
        self._take_joint_state(now)
        self._take_chunk(now)
        decision = self._supervisor.tick(now)
        if decision.joint_positions is not None:
            self._command(decision, now)
        self.sentence = decision.sentence
        told = (decision.state, decision.reason if decision.state is not SafetyState.RUN else "")
        if told != self._told or now >= self._status_due or now < self._status_due - STATUS_PERIOD:
            if told != self._told:
                self.note(f"{decision.state.name}: {decision.sentence}")
            self._told, self._status_due = told, now + STATUS_PERIOD
            self._publish_status(self._status(decision, now))
        self.durations.append(time.perf_counter() - began)
        return decision

    def _take_estop(self, now: float) -> None:
        pressed = self.estop.take(time.monotonic())
        if pressed and (not self._pressed or self._supervisor.state is not SafetyState.ESTOP):
            self._supervisor.press_estop(now)
        elif self._pressed and not pressed:
            self._supervisor.release_estop(now)
        self._pressed = pressed

    def _take_instructions(self, now: float) -> None:
        while (message := self.inputs.take_instruction()) is not None:
            try:
                self._supervisor.receive_instruction(message_to_instruction(message), now)
            except InstructionError as error:
                self.note(f"instruction refused: {error}")

    def _take_joint_state(self, now: float) -> None:
        message = self.inputs.take_joint_state()
        if message is None:
            return
        try:
            state = joint_state_to_robot_state(message, self._contract, self._supervisor.kinematics)
            self._supervisor.receive_state(state, now)
        except ObservationError as error:
            self._supervisor.refuse_state(now)
            self.note(f"joint state refused: {error}")

    def _take_chunk(self, now: float) -> None:
        taken = self.inputs.take_chunk(now - LOCKSTEP_LATENCY + 1e-6 if self._lockstep else np.inf)
        if taken is None:
            return
        message, foreign = taken
        answer = self._judge_chunk(message, foreign, now)
        if answer != Reason.OK.label:
            self.note(f"chunk {message.sequence} of '{message.policy}' refused: {answer}")

    def _judge_chunk(self, message: ActionChunk, foreign: bool, now: float) -> str:
        if foreign:
            return self._supervisor.refuse_chunk(Reason.CHUNK_FOREIGN, now)
        try:
            chunk = message_to_chunk(message)
        except ChunkError:
            finite = bool(np.isfinite(message.actions).all())
            return self._supervisor.refuse_chunk(Reason.CHUNK_SHAPE if finite else Reason.CHUNK_NOT_FINITE, now)
        start = self._start_of(chunk.observation_stamp)
        if start is None:
            return self._supervisor.refuse_chunk(Reason.CHUNK_START, now)
        return self._supervisor.receive_chunk(chunk, start, now)

    def _start_of(self, stamp: float) -> Pose | None:
        """Return the tool pose at `stamp`, s, recomputed from the joints measured then."""
        message = self.inputs.joint_state_at(stamp, self._parameters.timing.future_tolerance)
        if message is None:
            return None
        try:
            return joint_state_to_robot_state(message, self._contract, self._supervisor.kinematics).end_effector
        except ObservationError:
            return None

    def _command(self, decision: SafetyDecision, now: float) -> None:
        if decision.joint_positions is None or decision.joint_velocities is None or decision.gripper_opening is None:
            return
        joints, gripper = self._contract.joints, self._contract.gripper
        each = decision.gripper_opening / len(gripper.names)
        self._publish_arm(
            self._trajectory(joints.names, decision.joint_positions.tolist(), decision.joint_velocities.tolist(), now)
        )
        self._publish_gripper(self._trajectory(gripper.names, [each] * len(gripper.names), [], now))

    def _trajectory(
        self, names: tuple[str, ...], positions: list[float], velocities: list[float], now: float
    ) -> JointTrajectory:
        """Return one point. A stamp of zero means on arrival; in lock step the tick's own."""
        message = JointTrajectory(joint_names=list(names))
        if self._lockstep:
            message.header.stamp = seconds_to_stamp(now)
        point = JointTrajectoryPoint(positions=positions, velocities=velocities)
        horizon = self.period if self._lockstep else COMMAND_HORIZON * self.period
        point.time_from_start.nanosec = round(horizon * 1e9)
        message.points.append(point)
        return message

    def _status(self, decision: SafetyDecision, now: float) -> SafetyStatus:
        supervisor, counters = self._supervisor, self._supervisor.counters
        message = SafetyStatus(
            state=int(decision.state),
            state_name=decision.state.name,
            reason_code=supervisor.reason.code,
            reason=decision.reason,
            sentence=decision.sentence,
            armed=supervisor.armed,
            observation_age=-1.0 if decision.observation_age is None else decision.observation_age,
            speed_scale=decision.speed_scale,
            axes=list(decision.executed),
            proposed=list(decision.proposed.values()),
            executed=list(decision.executed.values()),
            tick=counters.ticks,
            missed_ticks=counters.missed_ticks,
            commands=counters.commands,
            corrections=counters.corrections,
            rejected_chunks=counters.rejected_chunks,
            instruction_sequence=supervisor.instruction_sequence,
        )
        message.header.stamp = seconds_to_stamp(now) if self._lockstep else self._clock.now().to_msg()
        message.header.frame_id = self._contract.base_frame
        return message
