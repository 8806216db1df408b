"""The safety layer in one object: inputs arrive asynchronously, `tick` at a fixed rate returns the command.

    supervisor = SafetySupervisor(contract, load_parameters())
    supervisor.receive_state(state, now)              # now: a steady clock, s
    assert supervisor.arm(now) is Reason.OK           # once ten consecutive states have shown the arm at rest
    supervisor.receive_chunk(chunk, start, now)       # start: the arm at the observation; two chunks start the arm
    decision = supervisor.tick(now)                   # every supervisor.period s, at deadlines of that clock
    if decision.joint_positions is not None:          # None while disarmed
        robot.follow(supervisor.trajectory(now), decision.gripper_opening)

In a simulation that your program steps, `now` is the simulation time, and each period has one state and one tick:

    for _ in range(10):                               # one policy period of 0.1 s
        supervisor.receive_state(env.state(), env.time)
        decision = supervisor.tick(env.time)
        env.command(decision.joint_positions, decision.gripper_opening)
        env.step(supervisor.period)

Not thread-safe: one thread makes all calls, unless a method says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pinocchio

from vla_ros.actions.joint_plan import JointTarget
from vla_ros.actions.trajectory import ArmStart
from vla_ros.errors import ObservationError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.chunk_gate import ChunkGate
from vla_ros.safety.contact.contact_reaction import ContactReaction
from vla_ros.safety.measurement.following import FROZEN_WINDOWS, FollowMonitor
from vla_ros.safety.measurement.measured_motion import MeasuredMotion
from vla_ros.safety.measurement.posture_jumps import PostureJumps
from vla_ros.safety.measurement.state_monitor import SETTLING_TIME, StateMonitor
from vla_ros.safety.motion.command_trajectory import TAIL, CommandTrajectory, command_trajectory, lead
from vla_ros.safety.motion.gripper_filter import GripperFilter
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.motion.motion import Motion, TickOverrunError
from vla_ros.safety.motion.plan_follower import PlanFollower
from vla_ros.safety.motion.published_motion import PublishedMotion
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.state_machine import StateMachine
from vla_ros.safety.watch.command_gap import CommandGap
from vla_ros.safety.watch.instruction import InstructionWatch
from vla_ros.safety.watch.policy import Heartbeat, PolicyWatch
from vla_ros.safety.watch.punctuality import LATE
from vla_ros.safety.watch.tick import TickWatch
from vla_ros.types import (
    ActionChunk,
    FloatArray,
    Instruction,
    InstructionKind,
    Pose,
    RobotState,
    SafetyDecision,
    SafetyState,
)

MOST_QUOTED = 64
"""Maximum number of characters of a stop instruction quoted in the reason, in ASCII: it has not been validated."""

ARRIVAL_TIME = 1.0
"""Time after the end of the last command in which the arm may still arrive there, s: it may lag, or not have been
measured in motion."""

REACH_TIME = 0.01
"""Time whose travel at full speed is the distance within which an arm is at its last command, s. Above 100 Hz, the
travel of one tick would be less than the position error due to gravity and friction."""

TOOL_AXES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
"""First axes of `proposed` and `executed`: m, rad (fixed axes of the base frame), m; the joints follow, rad. With
several arms, each has them under its name, as in "left/x"."""

MALFORMED = frozenset(
    {
        Reason.CHUNK_SPECIFICATION,
        Reason.CHUNK_SHAPE,
        Reason.CHUNK_PERIOD,
        Reason.CHUNK_NOT_FINITE,
        Reason.CHUNK_ROTATION,
        Reason.CHUNK_OUT_OF_RANGE,
        Reason.TRUST_LOW,
    }
)
"""Reasons for rejecting a chunk that indicate a faulty policy: the arm holds at once. Other chunks are only dropped."""


@dataclass
class Counters:
    """Counters since the supervisor was created."""

    ticks: int = 0
    missed_ticks: int = 0
    commands: int = 0
    corrections: int = 0
    rejected_chunks: int = 0
    overruns: int = 0


def _tool_axes(arms: Sequence[str]) -> tuple[str, ...]:
    """Return the tool and gripper axes of these arms."""
    return TOOL_AXES if len(arms) == 1 else tuple(f"{arm}/{axis}" for arm in arms for axis in TOOL_AXES)


class SafetySupervisor:
    """Safety layer: state machine, watchdogs and motion filter; it never passes an unsafe command."""

    def __init__(
        self, contract: RobotContract, parameters: SafetyParameters, *, heartbeat: bool = False, lockstep: bool = False
    ) -> None:
        """Build all stages for a robot; disarmed.

        Args:
            contract: Robot contract.
            parameters: Parameters of the safety layer.
            heartbeat: Require a heartbeat of the policy (and of the instruction node): needed where it runs in another
                process. In the same thread it cannot crash alone.
            lockstep: Simulation time stands still until the robot is commanded: no tick is missed or late, and no joint
                states can show an arm at rest before it is armed.

        Raises:
            ContractError: when contract and robot description do not match.
        """
        self.contract, self.parameters, self._settle = contract, parameters, not lockstep
        self.period = parameters.timing.period
        arms = contract.arms
        self.axes = (*_tool_axes([arm.name for arm in arms]), *contract.joints.names)
        self.counters = Counters()
        self.kinematics = Kinematics(contract)
        owners = contract.joint_owners
        self._monitor = StateMonitor(contract.joints.count, parameters.timing.state_timeout, owners)
        self._gate = ChunkGate(contract, parameters)
        self._machine = StateMachine()
        self._plan = PlanFollower(parameters)
        self._policy = PolicyWatch(parameters.timing) if heartbeat else None
        self._instructions = InstructionWatch(parameters.timing) if heartbeat else None
        self._ticks = TickWatch(parameters.timing)
        self._motion = Motion(contract, parameters, self.kinematics, lockstep=lockstep)
        deadband, reversal_time = parameters.gripper.deadband, parameters.gripper.reversal_time
        self._grippers = tuple(GripperFilter(arm.gripper, self.period, deadband, reversal_time) for arm in arms)
        self._following = FollowMonitor(contract.joints.names, parameters.motion)
        self._reach = contract.joints.velocity * max(self.period, REACH_TIME)  # (n,) rad
        self._measured = MeasuredMotion(
            self._reach, FROZEN_WINDOWS * parameters.motion.follow_window, parameters.motion.follow_tolerance, owners
        )
        self._jumps = PostureJumps(self._reach, parameters.motion.follow_tolerance)
        timing = parameters.timing
        ahead = 0.0 if lockstep else lead(timing.period, timing.tick_budget) + LATE
        self._contact = ContactReaction(contract, self.kinematics, self.period, ahead)
        self._last_command: tuple[FloatArray, float] | None = None  # its end position, (n,) rad, and end time, s
        self._last_due = -np.inf  # time at which the last command is due, s
        lets_go = np.inf if lockstep else contract.controllers.command_timeout
        self._gap = CommandGap(timing.period, lets_go, self._reach, self._measured.stands)
        self._graph_fault = (Reason.OK, "")
        self._relieves = False  # whether a latched contact is relieved in this tick
        self._commanding = False
        self._gripped_at = (np.inf,) * len(arms)  # measured openings when the grippers were last commanded, m
        self._braked_in_row = 0
        self._commanded = self._motion.joints.current
        self._published = PublishedMotion(timing.period)
        self._noted = 0  # serial of the newest recorded step

    @property
    def state(self) -> SafetyState:
        """State after the last call."""
        return self._machine.state

    @property
    def reason(self) -> Reason:
        """Reason for the state."""
        return self._machine.reason

    @property
    def armed(self) -> bool:
        """True from a successful `arm` until disarmed or stopped by the emergency stop."""
        return self._machine.armed

    @property
    def settling_ticks(self) -> int:
        """Number of joint states, one per tick, that must show the arm at rest before it can be armed."""
        return max(self.parameters.timing.resume_states, math.ceil(SETTLING_TIME / self.period)) + 2

    @property
    def commanding(self) -> bool:
        """Whether every tick produces a command."""
        return self._commanding and not self._gap.open

    @property
    def resting(self) -> bool:
        """Whether the commanded motion is at rest, and no retreat from a contact is pending."""
        return self._motion.joints.resting and not self._contact.retreating

    @property
    def instruction_sequence(self) -> int:
        """Sequence number of the current chunk's instruction; 0 without a chunk."""
        return 0 if self._plan.accepted is None else self._plan.accepted.chunk.instruction_sequence

    def receive_state(self, state: RobotState, now: float) -> None:
        """Process a joint state received at `now`, s.

        Raises:
            ObservationError: when it is rejected. The fault is kept, and the next tick holds because of it.
        """
        known = self._monitor.state
        try:
            self._monitor.receive(state, now)
        except ObservationError:
            self._jumps.refuse(now)
            raise
        if self._monitor.state is not known:  # else a repeated measurement
            self._gap.measure(state, now)
            self._measured.measure(state.joint_positions, now)
            last = None if self._last_command is None else self._last_command[0]
            arriving = self.resting and now - self._last_due <= ARRIVAL_TIME
            self._jumps.measure(state.joint_positions, state.stamp, now, last, arriving=arriving)

    def restart_measuring(self) -> None:
        """Treat the following joint states as those of a restarted driver."""
        self._measured.interrupt()
        self._jumps.interrupt()

    def let_go(self) -> None:
        """Stop commanding until the next arming; an emergency stop stays latched."""
        self._machine.disarm()
        self._machine.rested()
        self._drop_plan()
        self._stop_commanding()

    def refuse_state(self, now: float, reason: Reason = Reason.STATE_WIDTH) -> None:
        """Record an unreadable joint state, and why; like any invalid one it holds the arm."""
        self._monitor.refuse(reason)
        if reason is not Reason.STATE_SOURCE:  # a source other than the arm's driver says nothing about that driver
            self._jumps.refuse(now)

    def receive_instruction(self, instruction: Instruction, now: float) -> None:
        """Process an instruction: a stop holds at once, a new task drops the plan for the old one."""
        if not self._gate.receive_instruction(instruction, self._monitor.sensor_time(now)):
            return
        if instruction.kind is InstructionKind.STOP:
            self._hold(Reason.INSTRUCTION_STOP, f"('{instruction.text}')")
        elif self._plan.accepted is not None and self.instruction_sequence != instruction.sequence:
            self._hold(Reason.INSTRUCTION_NEW)

    def stop(self, text: str, now: float) -> None:
        """Stop for a stop phrase without a sequence number; only the next new task resumes, no plan before it."""
        known = self._gate.instruction
        sequence, stamp = (0, 0.0) if known is None else (known.sequence, known.stamp)
        self.receive_instruction(
            Instruction(ascii(text)[1:-1][:MOST_QUOTED], sequence, InstructionKind.STOP, stamp), now
        )

    def receive_chunk(self, chunk: ActionChunk, start: ArmStart | Pose, now: float) -> Reason:
        """Process a chunk and return OK, or why it is rejected; never raises because of its content.

        Args:
            chunk: Chunk of the policy.
            start: The arm at the chunk's observation; for tool-space actions, the tool pose in the base frame suffices.
            now: Time of receipt, s.
        """
        if self._monitor.fault(now) is not Reason.OK:
            return self.refuse_chunk(Reason.CHUNK_WITHOUT_STATE, now)
        sensor_time = self._monitor.sensor_time(now)
        verdict = self._gate.judge(chunk, start, now, sensor_time)
        if isinstance(verdict, Reason):
            return self.refuse_chunk(verdict, now)
        if self.armed:  # else it is valid but not followed, and would be too old later
            self._plan.take(verdict)
            if self._machine.moving:
                self._plan.begin(self._motion.placement, self._motion.joints.current.positions, sensor_time)
        return Reason.OK

    def receive_heartbeat(self, beat: Heartbeat, now: float) -> None:
        """Process a heartbeat of the policy."""
        if self._policy is not None:
            self._policy.receive(beat, now)

    def receive_instruction_beat(self, beat: int, now: float) -> None:
        """Process the instruction node's heartbeat with this number."""
        if self._instructions is not None:
            self._instructions.receive(beat, now)

    def report(self, reason: Reason, detail: str = "") -> None:
        """Report a fault of the graph, or OK; the arm holds while the fault lasts."""
        self._graph_fault = reason, detail

    def refuse_chunk(self, reason: Reason, now: float) -> Reason:
        """Count a rejected chunk, possibly an unreadable one, and return the reason."""
        self.counters.rejected_chunks += 1
        self._machine.refused(reason)
        if reason in MALFORMED:
            self._hold(reason)
        return reason

    def arm(self, now: float) -> Reason:
        """Arm: hold the current posture, ready to follow valid chunks; return OK or the reason for refusing."""
        if self._machine.state is SafetyState.ESTOP:
            return self._machine.reason
        if self.armed:
            return Reason.OK
        if self._commanding or (self._settle and now < self._last_due):  # the arm still executes its last command
            return Reason.DISARMING
        fault, state = self._monitor.fault(now), self._monitor.state
        if fault is not Reason.OK or state is None:
            return fault
        joints, motion = self.contract.joints, self.parameters.motion
        if not (np.abs(state.joint_velocities) <= motion.arming_speed).all():
            return Reason.MOVING
        unrest = self._unrest() if self._settle else Reason.OK
        if unrest is not Reason.OK:
            return unrest
        # The gripper's first command must have been measured twice: a single wrong measurement would make it jump.
        if self._monitor.gripper_step > self.parameters.gripper.deadband:
            return Reason.MOVING
        outside = np.maximum(joints.lower - state.joint_positions, state.joint_positions - joints.upper)
        if not (outside <= motion.recoverable_violation).all():
            return Reason.OUTSIDE_LIMITS
        posture = self._first_posture(state.joint_positions, now)
        if isinstance(posture, Reason):
            return posture
        self._motion.seed(posture)
        self._published.clear(self._motion.joints.current.serial)
        self._following.restart(posture, now)
        self._measured.restart(posture)
        self._contact.reset(posture)
        for gripper, opening, before in zip(self._grippers, state.gripper_openings, self._gripped_at, strict=True):
            if abs(opening - before) > self.parameters.gripper.deadband:
                gripper.seed(opening)
        # Otherwise it is where it was when last commanded. Fingers on an object never reach their command: starting
        # from the measured opening would release the object.
        self._drop_plan()
        self._machine.arm()
        self._commanding = True
        return Reason.OK

    def _unrest(self) -> Reason:
        return self._monitor.unrest(self.parameters.timing.resume_states, self.parameters.motion.arming_speed)

    def _first_posture(self, measured: FloatArray, now: float) -> FloatArray | Reason:
        """Return the posture (n,) rad commanded first after arming, the controller's reference, or why there is none.

        The position of a joint that was measured to jump is unknown, unless it is at its last command. Otherwise the
        posture is the last command while the arm is measured within `REACH_TIME` of travel from it, or where it came to
        rest near it, and the measured posture once the controller's own time-out has superseded that command. Before
        that, commanding another posture would be a jump of the reference, whatever the arm does. After it, the joints
        that are measured elsewhere must have been seen to leave: a driver that froze in motion reports a posture that
        the arm has left.
        """
        if self._settle and self._jumps.standing.any():
            return Reason.POSTURE_JUMPED
        if self._last_command is None:
            return measured
        commanded, end = self._last_command
        away = ~self._measured.stands(measured, commanded)
        if not away.any():
            return commanded
        if not now - end - 2.0 * self.period > self.contract.controllers.command_timeout:
            return Reason.TRACKING
        return measured if self._measured.shows(away) else Reason.POSTURE_UNSEEN

    def disarm(self, now: float) -> None:
        """Bring the arm to rest, then stop commanding."""
        self._machine.disarm()
        self._drop_plan()
        self._finish_disarming(self._contact.retreating)

    def press_estop(self, now: float) -> None:
        """Stop as fast as the joints can, and stay stopped until `reset`."""
        self._machine.press_estop()
        self._drop_plan()

    def release_estop(self, now: float) -> None:
        """Record that the emergency stop signal is healthy again; this alone moves nothing."""
        self._machine.release_estop()

    def reset(self, now: float) -> Reason:
        """Leave the emergency stop for DISARMED; return OK or the reason for refusing."""
        if self._machine.state is not SafetyState.ESTOP:
            return Reason.OK
        fault = self._monitor.fault(now)
        if fault is not Reason.OK:
            return fault
        if self._commanding and (not self._motion.joints.resting or (self._relieves and self._contact.unloading)):
            return Reason.MOVING
        reason = self._machine.reset()
        if reason is Reason.OK:
            self._stop_commanding()
        return reason

    @property
    def commanded(self) -> JointStep:
        """Step commanded by the last tick."""
        return self._commanded

    def trajectory(self, now: float, step: JointStep | None = None) -> CommandTrajectory:
        """Return a step, by default that of the last decision, as a trajectory published at `now`, s."""
        return command_trajectory(self._commanded if step is None else step, self.period, now)

    @property
    def next_due(self) -> float:
        """Time at which the tick after the last step is due, s."""
        return self._motion.next_tick

    @property
    def settled(self) -> bool:
        """Whether the commanded motion has been at rest for a while."""
        return self._motion.joints.current.settled

    def too_late(self, step: JointStep, now: float) -> bool:
        """Return whether a step is too late at `now`, s: the controller is about to start the known stop."""
        return self._motion.too_late(step, now)

    def interrupted(self, now: float) -> bool:
        """Return whether the controller has dropped the last command at `now`, s: none may follow it. Thread-safe."""
        return self._gap.over(now)

    def withdraw(self, step: JointStep) -> JointStep:
        """Withdraw an unpublished step, and return the known stop's step in its place."""
        step = self._motion.withdraw(step)
        if step.serial > self._commanded.serial:  # else the other thread has made one meanwhile
            self._commanded = step
        self._note_command(step, step.due)
        return step

    def may_follow(self, step: JointStep, now: float) -> bool:
        """Return whether a step may be published at `now`, s: it must lead on from what the controller executes.

        If nothing has been published for long, only the stop leads on, until the arm is at rest.
        """
        if self._published.interrupted(now):
            self._motion.rest_first()
            if not (step.stopped_rows or step.resting):
                return False
        return self._published.continues(step)

    def note_published(self, step: JointStep, now: float) -> None:
        """Record that a step has been published at `now`, s."""
        self._published.record(step, now)

    def rejoin(self) -> JointStep:
        """Go on from the last published step, and return it: the steps since then do not lead on from it."""
        last = self._published.last
        if last is None:
            raise ValueError("no step has been published from which the motion could go on")
        self._commanded = step = self._motion.rejoin(last)
        self._note_command(step, step.due)
        return step

    def _note_command(self, step: JointStep, now: float) -> None:
        """Record a commanded step, and where it ends if no other one follows; not one that another has replaced."""
        if step.serial < self._noted:
            return
        self._noted = step.serial
        end = now + step.ahead.rows * self.period + TAIL
        self._last_command, self._last_due = (step.stop.positions[-1], end), step.due
        self._gap.command(step)

    def watchdog_brake(self, now: float, sent: int) -> tuple[JointStep, float] | None:
        """Return the watchdog's command in place of a tick that is late or hangs; may be called by another thread.

        Neither uses a solver nor waits for one. The late tick detects it, and the arm slows or holds.

        Args:
            now: Steady clock, s. It also serves a tick that comes less than half a period later.
            sent: Serial number of the last published step: a later one, taken but not published, comes first.

        Returns:
            The step and the gripper's opening, m (NaN for several arms, see `gripper_openings`); None while nothing is
            commanded, also after a gap, where the next tick decides.
        """
        if not self._commanding or self._gap.over(now):
            return None
        before, step = self._motion.joints.current.serial, self._motion.watchdog_brake(now, sent)
        self._note_command(step, now)
        self.counters.commands += step.serial != before
        self.counters.overruns += 1
        return step, self._grippers[0].opening if len(self._grippers) == 1 else np.nan

    @property
    def gripper_openings(self) -> tuple[float, ...]:
        """Commanded opening of each arm's gripper, m."""
        return tuple(gripper.opening for gripper in self._grippers)

    def margins(self, now: float) -> dict[str, float]:
        """Return the margin to each limit and deadline, by name; see SafetyStatus.msg."""
        timing, margins = self.parameters.timing, self._motion.margins() if self._commanding else {}
        if self._monitor.state is not None:
            margins["joint_state"] = timing.state_timeout - (now - self._monitor.received)
        if self._policy is not None and np.isfinite(left := self._policy.left(now)):
            margins["heartbeat"] = left
        return margins | self._plan.margins(now)

    def tick(self, now: float) -> SafetyDecision:
        """Return the decision for this tick; call it every `period` s of the clock used for all inputs.

        Raises:
            ValueError: when `now` is not finite; nothing has changed then, and the watchdog brakes.
        """
        if not math.isfinite(now):
            raise ValueError(f"received {now} as the time of a tick, expected finite seconds of a steady clock")
        self.counters.ticks += 1
        self._gap.look(now)
        self.counters.missed_ticks += self._ticks.count(now, self._motion.begin_tick(now))
        self._plan.advance(self._monitor.sensor_time(now))
        self._following.record(self._motion.joints.current.positions, now)
        self._contact.record(self._motion.joints.current, now)
        self._measured.command(self._motion.joints.current.positions, now)
        fault, detail = self._fault(now)
        if fault is not Reason.OK:
            self._hold(fault, detail)
        elif self._machine.state is SafetyState.HOLD and self._ready(now):
            self._machine.run(Reason.OK, "", slow=False)
            positions = self._motion.joints.current.positions
            self._plan.begin(self._motion.placement, positions, self._monitor.sensor_time(now))
        # Before braking: disarming finishes only once the rest position has been commanded.
        self._finish_disarming(self._relieves and self._contact.retreating)
        self._give_up_if_lost(detail if fault is Reason.TRACKING else "")
        self._end_gap(now)
        if not self.commanding:
            return self._decision(now, {}, 0.0)
        if self._motion.taken:
            return replace(self._decision(now, {}, 0.0), joint_positions=None)
        try:
            decision = self._step(now)
        except TickOverrunError:  # the watchdog has published this tick's command; the next tick detects it
            return replace(self._decision(now, {}, 0.0), joint_positions=None)
        self.counters.commands += 1
        return decision

    def _step(self, now: float) -> SafetyDecision:
        """Follow the plan, or the known stop, also if the controller has already started it in place of this step."""
        if self._machine.moving and not self._motion.behind:
            try:
                return self._follow(now)
            except TickOverrunError:
                raise
            except Exception as error:  # any failure: the stop has been computed in advance
                self._hold(Reason.RESULT_INVALID, f"({type(error).__name__}: {error})")
        late = Reason.TICKS_MISSED if self._motion.resting_first else self._ticks.late(now)
        if self._machine.moving and late is not Reason.OK:
            self._machine.run(late, "", slow=True)
        step = (None if self._motion.behind else self._retreat()) or self._motion.brake()
        for gripper in self._grippers:
            gripper.hold()
        return self._decision(now, {}, 0.0, step)

    def _retreat(self) -> JointStep | None:
        """Return the step that retreats from a contact, also when disarming; None to follow the known stop."""
        contact = self._contact
        if not self._relieves:
            return None
        try:
            stopped, resting = self._machine.state is SafetyState.ESTOP, self._motion.joints.resting
            velocities = contact.unload(resting) if stopped else contact.retreat()
            return None if velocities is None else self._motion.retrace(velocities)
        except TickOverrunError:
            raise
        except Exception:  # as when following: the stop has been computed in advance
            self._contact.give_up()
            return None

    def _fault(self, now: float) -> tuple[Reason, str]:
        """Return the fault that forbids following anything at `now`, or OK."""
        follows = self._follows(now)  # first: the arm must be monitored even while another fault holds it
        # An arm in contact is relieved whatever else holds it, unless the controller has dropped the stop, or another
        # commander may be what moves the arm.
        foreign = self._graph_fault[0] is Reason.FOREIGN_COMMANDER
        self._relieves = follows[0] is Reason.CONTACT and not (foreign or self._gap.open)
        if self._graph_fault[0] is not Reason.OK:
            return self._graph_fault
        if self._monitor.take_jump():
            self._gate.forget_order()
            return Reason.CLOCK_JUMP, ""
        fault = self._monitor.fault(now)
        if fault is not Reason.OK:
            return fault, f"(for {now - self._monitor.received:.2f} s)" if fault is Reason.STATE_STALE else ""
        fault, detail = self._ticks.fault()
        if fault is not Reason.OK:
            return fault, detail
        if self._gap.open:
            return Reason.TICKS_MISSED, self._gap.detail(now)
        if follows[0] is not Reason.OK:
            return follows
        if self._braked_in_row >= self.parameters.motion.corrections_hold:
            return Reason.TOO_MANY_CORRECTIONS, f"({self._braked_in_row})"
        if self._instructions is not None and not self._gate.stopped:  # an active stop says more, and lasts longer
            fault, detail = self._instructions.fault(now)
            if fault is not Reason.OK:
                return fault, detail
        return self._policy_fault(now) if self._machine.moving else (Reason.OK, "")

    def _policy_fault(self, now: float) -> tuple[Reason, str]:
        """Return the fault of the policy or its plan at `now`, or OK."""
        fault, detail = (Reason.OK, "") if self._policy is None else self._policy.fault(now)
        return (fault, detail) if fault is not Reason.OK else self._plan.fault(now)

    def _follows(self, now: float) -> tuple[Reason, str]:
        """Return why the arm does not follow its commands according to the newest measurement, or OK."""
        state, monitor = self._monitor.state, self._monitor
        if not self._commanding or state is None or monitor.fault(now) is not Reason.OK:
            return Reason.OK, ""
        still = monitor.received - monitor.changed
        fault, detail = self._following.judge(state.joint_positions, monitor.received, still)
        return self._contact.judge(fault, detail, state, now)

    def _give_up_if_lost(self, detail: str) -> None:
        """Stop commanding a posture that the arm has left: once released, it would be driven back at once."""
        if self._following.lost:
            self._contact.give_up()
        held = self._machine.state in (SafetyState.HOLD, SafetyState.ESTOP)
        if self._following.lost and self._motion.joints.resting and held and self._commanding:
            self._lose(detail)

    def _end_gap(self, now: float) -> None:
        """End a gap: resume if the arm is measured at rest at the end of the known stop, else stop commanding."""
        state, monitor = self._monitor.state, self._monitor
        if not self._gap.open or state is None or monitor.fault(now) is not Reason.OK:
            return
        answer = self._gap.judge(state, monitor.received, self._unrest() is Reason.OK)
        if answer is Reason.OK:
            self._gap.close()
        elif answer is Reason.TRACKING:
            self._lose(self._gap.detail(now))

    def _lose(self, detail: str) -> None:
        self._machine.lose(Reason.TRACKING, detail)
        self._drop_plan()
        self._stop_commanding()

    def _stop_commanding(self) -> None:
        self._commanding = False
        self._gap.close()

    def _ready(self, now: float) -> bool:
        """Return whether enough consecutive valid inputs have been received to end a HOLD."""
        enough_states = self._monitor.sound_in_row >= self.parameters.timing.resume_states
        return self.armed and enough_states and self._plan.primed and self._policy_fault(now)[0] is Reason.OK

    def _hold(self, reason: Reason, detail: str = "") -> None:
        """Hold, and require fresh inputs before resuming."""
        self._machine.hold(reason, detail)
        self._drop_plan()

    def _drop_plan(self) -> None:
        self._plan.drop()
        self._braked_in_row = 0

    def _finish_disarming(self, retreating: bool) -> None:
        """Stop commanding once the arm is at rest; a retreat from a contact comes first."""
        if self._machine.disarming and self._motion.joints.resting and not retreating:
            self._machine.rested()
            self._stop_commanding()

    def _follow(self, now: float) -> SafetyDecision:
        """Move along the plan for one tick."""
        scale, reason, detail = self._plan.speed_scale(now)
        late = self._ticks.late(now)
        if late is not Reason.OK and scale > self.parameters.motion.slow_speed:
            scale, reason, detail = self.parameters.motion.slow_speed, late, ""
        if self._policy is not None and self._policy.late(now) and scale > self.parameters.motion.slow_speed:
            scale, reason, detail = self.parameters.motion.slow_speed, Reason.POLICY_SILENT, ""
        slow = reason is not Reason.OK
        asked, preview = self._plan.asked(), self._motion.filter
        ahead, later = self._plan.target(preview.preview), self._plan.target(preview.brake_preview)
        result = self._motion.follow(asked, ahead, later, scale)
        openings = self._plan.openings()
        gripped = self._grip(openings)
        self._braked_in_row = self._braked_in_row + 1 if result.braked else 0
        if result.reason is not Reason.OK:
            reason, detail = result.reason, result.detail
        elif gripped is not Reason.OK:
            reason, detail = gripped, ""
        self.counters.corrections += result.reason is not Reason.OK or gripped is not Reason.OK
        self._machine.run(reason, detail, slow)
        widths = tuple(
            gripper.opening if opening is None else opening
            for gripper, opening in zip(self._grippers, openings, strict=True)
        )
        if isinstance(asked, JointTarget):
            tools = self.kinematics.placements(asked.positions)
            places = [(np.asarray(tool.translation), tool.rotation) for tool in tools]
            proposed = self._axes_of(places, widths, asked.positions)
        else:
            proposed = self._axes_of([(asked.position, asked.rotation)], widths, result.wanted)
        return self._decision(now, proposed, scale, result.step)

    def _grip(self, openings: tuple[float | None, ...]) -> Reason:
        """Move each gripper towards its opening, m, for one tick; return the first correction."""
        reasons = [
            Reason.OK if opening is None else gripper.step(opening)
            for gripper, opening in zip(self._grippers, openings, strict=True)
        ]
        return next((reason for reason in reasons if reason is not Reason.OK), Reason.OK)

    def _axes_of(
        self, places: Sequence[tuple[FloatArray, FloatArray]], openings: tuple[float, ...], joints: FloatArray
    ) -> dict[str, float]:
        values: list[float] = []
        for (position, rotation), opening in zip(places, openings, strict=True):
            angles = pinocchio.rpy.matrixToRpy(np.asarray(rotation))
            values += [*position.tolist(), *angles.tolist(), opening]
        return dict(zip(self.axes, (*values, *joints.tolist()), strict=True))

    def _decision(
        self, now: float, proposed: dict[str, float], scale: float, step: JointStep | None = None
    ) -> SafetyDecision:
        machine, age = self._machine, self._plan.age(now)
        sentence = machine.reason.explain(machine.detail)
        if not self.commanding:
            return SafetyDecision(machine.state, machine.reason.label, sentence, speed_scale=0.0, observation_age=age)
        step, openings = step or self._motion.joints.current, self.gripper_openings
        if step.serial < self._commanded.serial:  # the watchdog has replaced it meanwhile
            step = self._commanded
        self._commanded = step
        self._note_command(step, now)
        if self._monitor.state is not None:
            self._gripped_at = self._monitor.state.gripper_openings
        places = [(np.asarray(tool.translation), tool.rotation) for tool in self._motion.placements]
        executed = self._axes_of(places, openings, step.positions)
        return SafetyDecision(
            state=machine.state,
            reason=machine.reason.label,
            sentence=sentence,
            joint_positions=step.positions,
            joint_velocities=step.velocities,
            gripper_opening=openings[0] if len(openings) == 1 else None,
            gripper_openings=openings,
            proposed=proposed or executed,
            executed=executed,
            speed_scale=scale,
            observation_age=age,
        )
