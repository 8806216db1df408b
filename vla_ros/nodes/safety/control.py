"""Control loop of the safety node: passes the newest messages to the supervisor, publishes commands and status."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from rclpy.clock import Clock
from trajectory_msgs.msg import JointTrajectory

from vla_ros.actions.trajectory import ArmStart
from vla_ros.errors import ChunkError, InstructionError, ObservationError
from vla_ros.msg import ActionChunk, PolicyStatus, SafetyStatus
from vla_ros.nodes.safety.conversions import (
    STATE_REASONS,
    braking_status,
    decision_to_status,
    message_to_heartbeat,
)
from vla_ros.nodes.safety.inputs import Inputs
from vla_ros.nodes.safety.orders import Orders
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.joint_states.report import JointReportError
from vla_ros.ros.messages.commands import CommandClock, CommandMessages
from vla_ros.ros.messages.conversions import (
    message_to_chunk,
    message_to_instruction,
    seconds_to_stamp,
)
from vla_ros.ros.refusals import RejectionLog
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import Counters, SafetySupervisor
from vla_ros.safety.watch.estop import EstopSignal
from vla_ros.types import NOWHERE, SafetyDecision, SafetyState

STATUS_PERIOD = 0.05
"""Maximum time between statuses, s."""

TOLD_AFTER = 2
"""Number of consecutive watchdog commands after which a status is published."""

LOCKSTEP_LATENCY = 0.03
"""Time after its observation at which a chunk takes effect in lockstep, s, even if it arrives earlier: runs are then
reproducible, whatever the order in which two processes are scheduled."""


class SafetyControl:
    """A supervisor with its messages, for the control thread only.

    Other threads may use `inputs`, `estop`, `note`, `take_notes` and `on_deadline_missed`.
    """

    def __init__(
        self,
        contract: RobotContract,
        parameters: SafetyParameters,
        *,
        publish_arm: Callable[[JointTrajectory], None],
        publish_gripper: Callable[[JointTrajectory], None],
        publish_status: Callable[[SafetyStatus], None],
        estop: EstopSignal,
        take_heartbeats: Callable[[], list[PolicyStatus]],
        clock: Callable[[], Clock],
        lockstep: bool,
        command_clock: CommandClock = CommandClock.SYSTEM,
        poll: Callable[[], tuple[Reason, str]] = lambda: (Reason.OK, ""),
        inputs: Inputs | None = None,
        orders: Orders | None = None,
    ) -> None:
        """Build the supervisor, disarmed. In lockstep inference time is unlimited, so heartbeats are not monitored.

        `clock` returns the clock for the stamps of statuses. `poll` receives the messages since the last tick, and
        returns the fault of their publishers.
        """
        self._contract, self._parameters = contract, parameters
        self._grippers, self._fingers = [arm.gripper for arm in contract.arms], contract.finger_names
        self._publish_arm, self._publish_gripper = publish_arm, publish_gripper
        self._publish_status = publish_status
        self._clock, self._lockstep = clock, lockstep
        self._orders = Orders() if orders is None else orders
        self._poll, self._take_heartbeats = poll, take_heartbeats
        self._supervisor = SafetySupervisor(contract, parameters, heartbeat=not lockstep, lockstep=lockstep)
        self.period = self._supervisor.period
        command_clock = CommandClock.LOCKSTEP if lockstep else command_clock
        self._messages = CommandMessages(contract.joints.names, self.period, command_clock)
        self.inputs = Inputs(contract) if inputs is None else inputs
        self.estop = estop
        self.durations: deque[float] = deque(maxlen=1000)
        self.lockstep_time = 0.0
        self._turn, self._sent = threading.Lock(), 0
        self._in_place, self._in_place_since = 0, 0.0
        self.command_due = np.inf  # when the tick of the next command is due, s; inf while there are none
        self.sentence = Reason.DISARMED.sentence
        self._notes: deque[str] = deque(maxlen=32)
        self._refusals = RejectionLog(self.note)
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
        """Whether the commanded motion is at rest."""
        return self._supervisor.resting

    @property
    def counters(self) -> Counters:
        """Counters of the supervisor."""
        return self._supervisor.counters

    def note(self, line: str) -> None:
        """Queue a line for the log; a full queue drops the oldest."""
        self._notes.append(line)

    def take_notes(self) -> list[str]:
        """Return and clear the queued log lines; thread-safe."""
        notes = []
        while self._notes:
            notes.append(self._notes.popleft())
        return notes

    def arm(self, now: float) -> str:
        """Arm; return "" or the reason for refusing."""
        return self._explain(self._supervisor.arm(now))

    def disarm(self, now: float) -> None:
        """Bring the arm to rest, then disarm."""
        self._supervisor.disarm(now)

    def reset(self, now: float) -> str:
        """Leave the emergency stop; return "" or the reason for refusing."""
        self.estop.forget_gone()
        self._take_estop(now)
        answer, why = self._explain(self._supervisor.reset(now)), self.estop.why(time.monotonic())
        return f"{answer} ({why})" if answer and why else answer

    def latch(self, now: float) -> None:
        """Start in the emergency stop, which was latched in the node's previous configuration."""
        self._supervisor.press_estop(now)
        self._supervisor.release_estop(now)

    def _explain(self, answer: Reason) -> str:
        return "" if answer is Reason.OK else f"{answer.label}: {answer.sentence}"

    def restart(self) -> None:
        """Reset to disarmed, or to the latched emergency stop; called on activation, before the first tick.

        The arm was unobserved meanwhile: nothing is commanded until it is armed, and the next joint states are treated
        as those of a restarted driver.
        """
        self._supervisor.let_go()
        self._supervisor.restart_measuring()
        self.command_due = np.inf

    def lockstep_tick(self, now: float) -> None:
        """Tick at the stamp of a joint state; a repeated stamp only repeats the command."""
        self.lockstep_time = now
        if self._answered is not None and self._answered[0] == now and self._answered[1].joint_positions is not None:
            self._command(self._answered[1], now)
            return
        self._answered = (now, self.tick(now))

    def tick(self, now: float) -> SafetyDecision:
        """Run one period: inputs, decision, commands, status."""
        began, self._in_place = time.perf_counter(), 0
        self._supervisor.report(*self._graph_fault())
        self._take_estop(now)
        self._take_instructions(now)
        for message in self._take_heartbeats()[-1:]:
            self._supervisor.receive_heartbeat(message_to_heartbeat(message), now)
        self._take_joint_state(now)
        self._take_chunk(now)
        self._refusals.catch_up()
        decision = self._supervisor.tick(now)
        if decision.joint_positions is not None:
            self._command(decision, now)
        elif not self._supervisor.commanding:
            self.command_due = np.inf
        self.sentence = decision.sentence
        told = (decision.state, decision.reason if decision.state is not SafetyState.RUN else "")
        if told != self._told or now >= self._status_due or now < self._status_due - STATUS_PERIOD:
            if told != self._told:
                self.note(f"{decision.state.name}: {decision.sentence}")
            self._told, self._status_due = told, now + STATUS_PERIOD
            self._publish_status(self._status(decision, now))
        self._orders.echo(f"{decision.state.name}: {decision.sentence}")
        self.durations.append(time.perf_counter() - began)
        return decision

    def on_deadline_missed(self, now: float) -> None:
        """Publish the next row of the known stop because this tick's command is late; for the watchdog's thread."""
        with self._turn:
            now = max(now, self._steady(now))  # it may have waited for the lock
            if not now - self.command_due >= self._parameters.timing.tick_budget:
                return  # published while it waited: the next row would be that of the tick after
            taken = self._supervisor.watchdog_brake(now, self._sent)
            if taken is None:
                return
            step, openings = taken[0], self._supervisor.gripper_openings
            self._send(step, openings, now)
            self.command_due = self._supervisor.next_due
            self._in_place += 1
            if self._in_place == 1:
                self._in_place_since = now
            # A single late command is not reported, nor any while the arm is held; a hung thread cannot report itself.
            if self._in_place == TOLD_AFTER and self._supervisor.state in (SafetyState.RUN, SafetyState.SLOW):
                self._publish_status(self._stamped(braking_status(step, self._supervisor, self._in_place_since), now))

    def _graph_fault(self) -> tuple[Reason, str]:
        """Return the fault of the publishers, or of the clock of the commands' stamps."""
        if self._messages.clock is CommandClock.SYSTEM:
            self._messages.offset.follow(free=self._supervisor.settled)
        fault, apart = self._poll(), self._messages.offset.jumped
        if fault[0] is Reason.OK and apart:
            return Reason.CLOCK_JUMP, f"(the system clock was set by {1e3 * apart:.0f} ms)"
        return fault

    def _take_estop(self, now: float) -> None:
        pressed = self.estop.take(time.monotonic())
        if pressed and (not self._pressed or self._supervisor.state is not SafetyState.ESTOP):
            if not self._pressed:
                self.note(f"emergency stop: {self.estop.why(time.monotonic()) or 'a button was pressed for a moment'}")
            self._supervisor.press_estop(now)
        elif self._pressed and not pressed:
            self._supervisor.release_estop(now)
        self._pressed = pressed

    def _take_instructions(self, now: float) -> None:
        for beat, received in self._orders.beats():
            self._supervisor.receive_instruction_beat(beat, min(received, now))
        if stop := self._orders.stop_phrase():
            self._supervisor.stop(stop, now)
        messages = []
        while (message := self.inputs.take_instruction()) is not None:
            messages.append(message)
        for message in self._orders.admit(messages):
            try:
                self._supervisor.receive_instruction(message_to_instruction(message), now)
            except InstructionError as error:
                self._refusals.note("instruction", f"instruction refused: {error}")

    def _take_joint_state(self, now: float) -> None:
        taken = self.inputs.take_joint_state()
        if taken is None:
            return
        reading, received = taken
        received = now if self._lockstep else min(received, now)  # it may have arrived while this tick began
        if isinstance(reading, JointReportError):
            reason = STATE_REASONS[reading.fault]
            self._supervisor.refuse_state(now, reason)
            self._refusals.note(f"joint state: {reason.label}", f"joint state refused: {reading}")
            return
        state = reading.to_state(self._supervisor.kinematics.forward)
        try:
            self._supervisor.receive_state(state, received)
        except ObservationError as error:  # the supervisor has recorded the fault
            self._refusals.note("joint state", f"joint state refused: {error}")

    def _take_chunk(self, now: float) -> None:
        taken = self.inputs.take_chunk(now - LOCKSTEP_LATENCY + 1e-6 if self._lockstep else np.inf)
        if taken is None:
            return
        message, foreign = taken
        answer = self._judge_chunk(message, foreign, now)
        if answer is not Reason.OK:
            sentence = f"chunk {message.sequence} of '{message.policy}' refused: {answer.label}"
            self._refusals.note(f"chunk: {answer.label}", sentence)

    def _judge_chunk(self, message: ActionChunk, foreign: bool, now: float) -> Reason:
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

    def _start_of(self, stamp: float) -> ArmStart | None:
        """Return the arm at `stamp`, s: the joints measured then, and the tool pose computed from them.

        Several arms are commanded in joint space: there is no tool pose from which a plan could start.
        """
        positions = self.inputs.posture_at(stamp, self._parameters.timing.future_tolerance)
        if positions is None:
            return None
        arms = self._contract.arms
        pose = self._supervisor.kinematics.forward(positions) if len(arms) == 1 else NOWHERE
        return ArmStart(positions, pose, arms[0].gripper.max_opening)

    def _command(self, decision: SafetyDecision, now: float) -> None:
        if decision.joint_positions is None or decision.joint_velocities is None or not decision.gripper_openings:
            return
        with self._turn:  # commands are published in the order of their creation, each of them once
            step = self._supervisor.commanded
            if step.serial <= self._sent and not self._lockstep:
                return
            self._send(step, decision.gripper_openings, now)
            self.command_due = np.inf if self._lockstep else self._supervisor.next_due

    def _send(self, step: JointStep, openings: Sequence[float], now: float) -> None:
        message = self._messages.trajectory(step, now, self._steady(now))
        # Checked once the message is ready, since building it takes time, too.
        while self._too_late(step, now):
            # The controller has started the stop in place of this step. The next tick continues from there.
            step = self._supervisor.withdraw(step)
            message = self._messages.trajectory(step, now, self._steady(now))
        at = self._steady(now)
        if self._supervisor.interrupted(at):  # preempted since the decision: the next tick replans
            return
        if not self._lockstep and not self._supervisor.may_follow(step, at):
            self._sent = self._supervisor.rejoin().serial  # both threads made steps meanwhile: the stop goes on
            return
        self._publish_arm(message)
        self.command_due = np.inf if self._lockstep else self._supervisor.next_due  # even if what follows fails
        self._supervisor.note_published(step, self._steady(now))
        self._sent = step.serial
        grippers = zip(self._grippers, openings, strict=True)
        fingers = [position for gripper, opening in grippers for position in gripper.joint_positions(opening)]
        self._publish_gripper(self._messages.point(self._fingers, fingers, [], now))

    def _too_late(self, step: JointStep, now: float) -> bool:
        """Return whether a step comes too late; a row of the stop never does: the controller follows it anyway."""
        if self._messages.clock is not CommandClock.SYSTEM or step.stopped_rows:
            return False
        return self._supervisor.too_late(step, self._steady(now))

    def _steady(self, now: float) -> float:
        """Return the current time on the clock of the ticks, s."""
        return now if self._lockstep else time.monotonic()

    def _status(self, decision: SafetyDecision, now: float) -> SafetyStatus:
        steady = time.monotonic() if self._lockstep else now
        return self._stamped(decision_to_status(decision, self._supervisor, now, steady), now)

    def _stamped(self, message: SafetyStatus, now: float) -> SafetyStatus:
        message.header.stamp = seconds_to_stamp(now) if self._lockstep else self._clock().now().to_msg()
        message.header.frame_id = self._contract.base_frame
        return message
