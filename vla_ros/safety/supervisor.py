"""The safety layer in one object: inputs come whenever they come, `tick` at a fixed rate says what to command.

    supervisor = SafetySupervisor(contract, load_parameters())
    supervisor.receive_state(state, now)              # now: a steady clock, s
    assert supervisor.arm(now) is Reason.OK           # when ten states in a row have shown the arm at rest
    supervisor.receive_chunk(chunk, start, now)       # start: the arm at the observation; two chunks start the arm
    decision = supervisor.tick(now)                   # every supervisor.period s, at deadlines of that clock
    if decision.joint_positions is not None:          # None while disarmed
        robot.follow(supervisor.trajectory(now), decision.gripper_opening)

In a simulation that steps by itself, `now` is the simulation time, and each period has one state and one tick:

    for _ in range(10):                               # one policy period of 0.1 s
        supervisor.receive_state(cell.state(), cell.time)
        decision = supervisor.tick(cell.time)
        cell.command(decision.joint_positions, decision.gripper_opening)
        cell.step(supervisor.period)

One thread calls all of it.
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
from vla_ros.safety.command_gap import CommandGap
from vla_ros.safety.command_trajectory import TAIL, CommandTrajectory, command_trajectory, lead
from vla_ros.safety.contact_reaction import ContactReaction
from vla_ros.safety.following import FROZEN_WINDOWS, FollowMonitor
from vla_ros.safety.gripper_filter import GripperFilter
from vla_ros.safety.instruction_watch import InstructionWatch
from vla_ros.safety.joint_motion import JointStep
from vla_ros.safety.measured_motion import MeasuredMotion
from vla_ros.safety.motion import Motion, TickOverrunError
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.plan_follower import PlanFollower
from vla_ros.safety.policy_watch import Heartbeat, PolicyWatch
from vla_ros.safety.posture_jumps import PostureJumps
from vla_ros.safety.punctuality import LATE
from vla_ros.safety.reasons import Reason
from vla_ros.safety.state_machine import StateMachine
from vla_ros.safety.state_monitor import SETTLING_TIME, StateMonitor
from vla_ros.safety.tick_watch import TickWatch
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
"""Characters of an order to stop that are repeated in the reason, in ASCII: it has not been validated."""

ARRIVAL_TIME = 1.0
"""So long after the end of the last command an arm that lags, or was not heard in motion, may still arrive there, s."""

REACH_TIME = 0.01
"""An arm that is nearer to its last command than the way of this time at full speed is there, s: at a higher rate than
100 Hz the way of one tick would be less than the position error that gravity and friction leave."""

TOOL_AXES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
"""The first axes of `proposed` and `executed`: m, rad (fixed axes of the base frame), m; the joints follow, rad. Where
there are several arms, each has them under its name, as in "left/x"."""

MALFORMED = frozenset({
    Reason.CHUNK_SPECIFICATION, Reason.CHUNK_SHAPE, Reason.CHUNK_PERIOD, Reason.CHUNK_NOT_FINITE,
    Reason.CHUNK_ROTATION, Reason.CHUNK_OUT_OF_RANGE, Reason.TRUST_LOW,
})  # fmt: skip
"""A chunk refused for one of these says that its policy is not well: the arm holds at once. Others are only dropped."""


@dataclass
class Counters:
    """What was counted since the supervisor was made."""

    ticks: int = 0
    missed_ticks: int = 0
    commands: int = 0
    corrections: int = 0
    rejected_chunks: int = 0
    overruns: int = 0


def _tool_axes(arms: Sequence[str]) -> tuple[str, ...]:
    """Return the axes of the tools and grippers of these arms."""
    return TOOL_AXES if len(arms) == 1 else tuple(f"{arm}/{axis}" for arm in arms for axis in TOOL_AXES)


class SafetySupervisor:
    """Lets nothing unsafe through: state machine, watchdogs, filter."""

    def __init__(
        self, contract: RobotContract, parameters: SafetyParameters, *, heartbeat: bool = False, lockstep: bool = False
    ) -> None:
        """Build all stages for a robot; disarmed.

        Args:
            contract: Of the robot.
            parameters: Of the layer.
            heartbeat: Follow a policy only while its heartbeat comes: needed where it runs in a process of its own. In
                the same thread it cannot die alone.
            lockstep: The time of a simulator stands still until it is commanded: no tick is missed or late, and no
                joint states can show an arm at rest before it is armed.

        Raises:
            ContractError: when contract and robot description do not fit each other.
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
        self._last_command: tuple[FloatArray, float] | None = None  # (n,) rad where it ends, and when, s
        self._last_due = -np.inf  # of the last command, s
        lets_go = np.inf if lockstep else contract.controllers.command_timeout
        self._gap = CommandGap(timing.period, lets_go, self._reach, self._measured.stands)
        self._graph_fault = (Reason.OK, "")
        self._commanding = False
        self._gripped_at = (np.inf,) * len(arms)  # measured openings when the grippers were last commanded, m
        self._braked_in_row = 0
        self._commanded = self._motion.joints.current

    @property
    def state(self) -> SafetyState:
        """State after the last call."""
        return self._machine.state

    @property
    def reason(self) -> Reason:
        """Why the state is what it is."""
        return self._machine.reason

    @property
    def armed(self) -> bool:
        """True from a successful `arm` until disarmed or stopped by the emergency stop."""
        return self._machine.armed

    @property
    def settling_ticks(self) -> int:
        """Joint states, one a tick, that must show the arm at rest before it can be armed."""
        return max(self.parameters.timing.resume_states, math.ceil(SETTLING_TIME / self.period)) + 2

    @property
    def commanding(self) -> bool:
        """Say whether every tick has a command."""
        return self._commanding and not self._gap.open

    @property
    def resting(self) -> bool:
        """Say whether the commanded motion is at rest, and no way back from a contact is left."""
        return self._motion.joints.resting and not self._contact.retreating

    @property
    def instruction_sequence(self) -> int:
        """Instruction that the running chunk serves; 0 when there is none."""
        return 0 if self._plan.accepted is None else self._plan.accepted.chunk.instruction_sequence

    def receive_state(self, state: RobotState, now: float) -> None:
        """Take what the joints measured; `now` is its time of receipt, s.

        Raises:
            ObservationError: when it cannot be used. The fault is kept, and the next tick holds because of it.
        """
        known = self._monitor.state
        try:
            self._monitor.receive(state, now)
        except ObservationError:
            self._jumps.refuse(now)
            raise
        if self._monitor.state is not known:  # else it is the same measurement again
            self._gap.measure(state, now)
            self._measured.measure(state.joint_positions, now)
            last = None if self._last_command is None else self._last_command[0]
            arriving = self.resting and now - self._last_due <= ARRIVAL_TIME
            self._jumps.measure(state.joint_positions, state.stamp, now, last, arriving=arriving)

    def restart_measuring(self) -> None:
        """Take the joint states that come from now on to be those of a driver that was started again."""
        self._measured.interrupt()
        self._jumps.interrupt()

    def let_go(self) -> None:
        """Command nothing any more until the next arming; an emergency stop stays latched."""
        self._machine.disarm()
        self._machine.rested()
        self._drop_plan()
        self._stop_commanding()

    def refuse_state(self, now: float, reason: Reason = Reason.STATE_WIDTH) -> None:
        """Note that a joint state came that could not even be read, and why; it holds the arm as any bad one does."""
        self._monitor.refuse(reason)
        if reason is not Reason.STATE_SOURCE:  # another source than that of the arm is none of its driver
            self._jumps.refuse(now)

    def receive_instruction(self, instruction: Instruction, now: float) -> None:
        """Take what the robot is asked to do: a stop holds at once, a new task drops the plan for the old one."""
        if not self._gate.receive_instruction(instruction):
            return
        if instruction.kind is InstructionKind.STOP:
            self._hold(Reason.INSTRUCTION_STOP, f"('{instruction.text}')")
        elif self._plan.accepted is not None and self.instruction_sequence != instruction.sequence:
            self._hold(Reason.INSTRUCTION_NEW)

    def stop(self, text: str, now: float) -> None:
        """Stop for an order in words that has not been numbered; the next new task, and no plan before it, goes on."""
        known = self._gate.instruction
        sequence, stamp = (0, 0.0) if known is None else (known.sequence, known.stamp)
        self.receive_instruction(
            Instruction(ascii(text)[1:-1][:MOST_QUOTED], sequence, InstructionKind.STOP, stamp), now
        )

    def receive_chunk(self, chunk: ActionChunk, start: ArmStart | Pose, now: float) -> Reason:
        """Take a plan and return OK, or why it is refused; never raises for its content.

        Args:
            chunk: From the policy.
            start: The arm at the observation behind it; where the actions are those of the tool, its pose in the base
                frame is enough.
            now: Time of its receipt, s.
        """
        if self._monitor.fault(now) is not Reason.OK:
            return self.refuse_chunk(Reason.CHUNK_WITHOUT_STATE, now)
        sensor_time = self._monitor.sensor_time(now)
        verdict = self._gate.judge(chunk, start, now, sensor_time)
        if isinstance(verdict, Reason):
            return self.refuse_chunk(verdict, now)
        if self.armed:  # else it is good, but nobody follows it, and it will be too old later
            self._plan.take(verdict)
            if self._machine.moving:
                self._plan.begin(self._motion.placement, self._motion.joints.current.positions, sensor_time)
        return Reason.OK

    def receive_heartbeat(self, beat: Heartbeat, now: float) -> None:
        """Take a sign of life of the policy."""
        if self._policy is not None:
            self._policy.receive(beat, now)

    def receive_instruction_beat(self, beat: int, now: float) -> None:
        """Take the beat with this number of the instruction node's heart."""
        if self._instructions is not None:
            self._instructions.receive(beat, now)

    def report(self, reason: Reason, detail: str = "") -> None:
        """Take what is wrong with the graph around the layer: it holds while it lasts; OK when nothing is."""
        self._graph_fault = reason, detail

    def refuse_chunk(self, reason: Reason, now: float) -> Reason:
        """Count a chunk that is not followed, also one that could not even be read, and return the reason."""
        self.counters.rejected_chunks += 1
        self._machine.refused(reason)
        if reason in MALFORMED:
            self._hold(reason)
        return reason

    def arm(self, now: float) -> Reason:
        """Hold the measured posture, ready to follow valid chunks; returns OK or why not."""
        if self._machine.state is SafetyState.ESTOP:
            return self._machine.reason
        if self.armed:
            return Reason.OK
        if self._commanding or (self._settle and now < self._last_due):  # the arm still moves as it was commanded
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
        # What the gripper's command will begin with has to be measured twice: one wrong measurement would make it jump.
        if self._monitor.gripper_step > self.parameters.gripper.deadband:
            return Reason.MOVING
        outside = np.maximum(joints.lower - state.joint_positions, state.joint_positions - joints.upper)
        if not (outside <= motion.recoverable_violation).all():
            return Reason.OUTSIDE_LIMITS
        posture = self._first_posture(state.joint_positions, now)
        if isinstance(posture, Reason):
            return posture
        self._motion.seed(posture)
        self._following.restart(posture, now)
        self._measured.restart(posture)
        self._contact.reset(posture)
        for gripper, opening, before in zip(self._grippers, state.gripper_openings, self._gripped_at, strict=True):
            if abs(opening - before) > self.parameters.gripper.deadband:
                gripper.seed(opening)
        # Otherwise it stands as it did when it was last commanded. Fingers on an object never reach their command, and
        # to begin with what is measured would let go of it.
        self._drop_plan()
        self._machine.arm()
        self._commanding = True
        return Reason.OK

    def _unrest(self) -> Reason:
        return self._monitor.unrest(self.parameters.timing.resume_states, self.parameters.motion.arming_speed)

    def _first_posture(self, measured: FloatArray, now: float) -> FloatArray | Reason:
        """Return the posture (n,) that arming begins to command: where the controller's reference stands, or why none.

        A joint that was measured to jump stands nobody knows where, unless it is where it was last commanded to. Else
        it is the last command while the arm is measured within one tick of it (`REACH_TIME`), or where it came to rest
        beside it, and the measured posture once the controller's own time-out has taken that command's place. Before
        that, a command to another posture would be a jump of the reference, whatever the arm does. After it the joints
        that are measured elsewhere must have been seen to leave: a driver that froze in motion reports where the arm
        no longer is.
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
        """Bring the arm to rest, then command nothing any more."""
        self._machine.disarm()
        self._drop_plan()
        self._finish_disarming(self._contact.retreating)

    def press_estop(self, now: float) -> None:
        """Stop as fast as the joints can, and stay so until `reset`."""
        self._machine.press_estop()
        self._drop_plan()

    def release_estop(self, now: float) -> None:
        """Note that the signal is healthy again; nothing moves because of that."""
        self._machine.release_estop()

    def reset(self, now: float) -> Reason:
        """Leave the emergency stop for DISARMED; returns OK or why not."""
        if self._machine.state is not SafetyState.ESTOP:
            return Reason.OK
        fault = self._monitor.fault(now)
        if fault is not Reason.OK:
            return fault
        if self._commanding and not self._motion.joints.resting:
            return Reason.MOVING
        reason = self._machine.reset()
        if reason is Reason.OK:
            self._stop_commanding()
        return reason

    @property
    def commanded(self) -> JointStep:
        """What the decision of the last tick commands."""
        return self._commanded

    def trajectory(self, now: float, step: JointStep | None = None) -> CommandTrajectory:
        """Return a step, by default that of the last decision, as a trajectory that is published at `now`, s."""
        return command_trajectory(self._commanded if step is None else step, self.period, now)

    @property
    def next_due(self) -> float:
        """Return when the tick after the last step is due, s."""
        return self._motion.next_tick

    @property
    def settled(self) -> bool:
        """Say whether the commanded motion has been at rest for a while."""
        return self._motion.joints.current.settled

    def too_late(self, step: JointStep, now: float) -> bool:
        """Say whether a step is of no use any more at `now`, s: the controller is about to begin the known stop."""
        return self._motion.too_late(step, now)

    def interrupted(self, now: float) -> bool:
        """Say whether at `now`, s, the controller has let go of the last command: none may follow it. Any thread."""
        return self._gap.over(now)

    def withdraw(self, step: JointStep) -> JointStep:
        """Take back a step that was not sent, and return that of the known stop in its place."""
        self._commanded = step = self._motion.withdraw(step)
        self._note_command(step, step.due)
        return step

    def _note_command(self, step: JointStep, now: float) -> None:
        """Note a step that is commanded, and where it leads if no other one follows."""
        end = now + step.ahead.rows * self.period + TAIL
        self._last_command, self._last_due = (step.stop.positions[-1], end), step.due
        self._gap.command(step)

    def brake_instead(self, now: float, sent: int) -> tuple[JointStep, float] | None:
        """Return what to command in place of a tick that is late or hangs; any other thread may call it.

        Needs no solver and waits for none. The tick that was late finds out, and the arm slows or holds.

        Args:
            now: Steady clock, s. A tick that comes less than half a period later has been served by this.
            sent: Number of the last step that was sent: a later one that was taken, but not sent, comes first.

        Returns:
            The step and the gripper's opening, m, NaN of several arms, which `gripper_openings` has; None while nothing
            is commanded, also after a gap: then the next tick decides.
        """
        if not self._commanding or self._gap.over(now):
            return None
        before, step = self._motion.joints.current.serial, self._motion.brake_instead(now, sent)
        self._note_command(step, now)
        self.counters.commands += step.serial != before
        self.counters.overruns += 1
        return step, self._grippers[0].opening if len(self._grippers) == 1 else np.nan

    @property
    def gripper_openings(self) -> tuple[float, ...]:
        """Commanded opening of each arm's gripper, m."""
        return tuple(gripper.opening for gripper in self._grippers)

    def margins(self, now: float) -> dict[str, float]:
        """Return how far everything is from the limit or the deadline that would act; see SafetyStatus.msg."""
        timing, margins = self.parameters.timing, self._motion.margins() if self._commanding else {}
        if self._monitor.state is not None:
            margins["joint_state"] = timing.state_timeout - (now - self._monitor.received)
        if self._policy is not None and np.isfinite(left := self._policy.left(now)):
            margins["heartbeat"] = left
        return margins | self._plan.margins(now)

    def tick(self, now: float) -> SafetyDecision:
        """Return what to command now; call it every `period` s of the same clock as everything else."""
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
        # Before the brake: the place of rest has then been commanded.
        self._finish_disarming(fault is Reason.CONTACT and self._contact.retreating)
        self._give_up_if_lost(detail if fault is Reason.TRACKING else "")
        self._end_gap(now)
        if not self.commanding:
            return self._decision(now, {}, 0.0)
        if self._motion.taken:
            return replace(self._decision(now, {}, 0.0), joint_positions=None)
        try:
            decision = self._step(now, fault)
        except TickOverrunError:  # the command of this tick has gone out already; the next one finds out
            return replace(self._decision(now, {}, 0.0), joint_positions=None)
        self.counters.commands += 1
        return decision

    def _step(self, now: float, fault: Reason) -> SafetyDecision:
        """Follow the plan, or the known stop: also where the controller has begun it in the place of this step."""
        if self._machine.moving and not self._motion.behind:
            try:
                return self._follow(now)
            except TickOverrunError:
                raise
            except Exception as error:  # whatever it is, the way to rest has been computed before
                self._hold(Reason.RESULT_INVALID, f"({type(error).__name__}: {error})")
        late = Reason.TICKS_MISSED if self._motion.resting_first else self._ticks.late(now)
        if self._machine.moving and late is not Reason.OK:
            self._machine.run(late, "", slow=True)
        step = (None if self._motion.behind else self._retreat(fault)) or self._motion.brake()
        for gripper in self._grippers:
            gripper.hold()
        return self._decision(now, {}, 0.0, step)

    def _retreat(self, fault: Reason) -> JointStep | None:
        """Return the step that backs off from a contact, also when disarming, or None: the known stop is followed."""
        contact = self._contact
        if fault is not Reason.CONTACT:
            return None
        try:
            stopped, resting = self._machine.state is SafetyState.ESTOP, self._motion.joints.resting
            velocities = contact.unload(resting) if stopped else contact.retreat()
            return None if velocities is None else self._motion.retrace(velocities)
        except TickOverrunError:
            raise
        except Exception:  # as while following: the way to rest has been computed before
            self._contact.give_up()
            return None

    def _fault(self, now: float) -> tuple[Reason, str]:
        """Return why nothing must be followed at `now`, or OK."""
        follows = self._follows(now)  # first: an arm must not be lost sight of while something else holds it
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
        if self._instructions is not None and not self._gate.stopped:  # a stop in force says more, and holds longer
            fault, detail = self._instructions.fault(now)
            if fault is not Reason.OK:
                return fault, detail
        return self._policy_fault(now) if self._machine.moving else (Reason.OK, "")

    def _policy_fault(self, now: float) -> tuple[Reason, str]:
        """Return why neither policy nor plan may be followed at `now`, or OK."""
        fault, detail = (Reason.OK, "") if self._policy is None else self._policy.fault(now)
        return (fault, detail) if fault is not Reason.OK else self._plan.fault(now)

    def _follows(self, now: float) -> tuple[Reason, str]:
        """Return why the arm does not follow its commands, as the newest measurement shows it, or OK."""
        state, monitor = self._monitor.state, self._monitor
        if not self._commanding or state is None or monitor.fault(now) is not Reason.OK:
            return Reason.OK, ""
        still = monitor.received - monitor.changed
        fault, detail = self._following.judge(state.joint_positions, monitor.received, still)
        return self._contact.judge(fault, detail, state, now)

    def _give_up_if_lost(self, detail: str) -> None:
        """Stop commanding a posture that the arm has left: let go of, it would be driven back at once."""
        if self._following.lost:
            self._contact.give_up()
        held = self._machine.state in (SafetyState.HOLD, SafetyState.ESTOP)
        if self._following.lost and self._motion.joints.resting and held and self._commanding:
            self._lose(detail)

    def _end_gap(self, now: float) -> None:
        """After a gap: go on where the arm is measured at rest at the end of the known stop, else give it up."""
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
        """Say whether enough valid inputs came in a row to end a hold."""
        enough_states = self._monitor.sound_in_row >= self.parameters.timing.resume_states
        return self.armed and enough_states and self._plan.primed and self._policy_fault(now)[0] is Reason.OK

    def _hold(self, reason: Reason, detail: str = "") -> None:
        """Stop, and want fresh inputs before going on."""
        self._machine.hold(reason, detail)
        self._drop_plan()

    def _drop_plan(self) -> None:
        self._plan.drop()
        self._braked_in_row = 0

    def _finish_disarming(self, retreating: bool) -> None:
        """Command nothing any more once the arm rests; a contact is backed off from first."""
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
        )  # fmt: skip
        if isinstance(asked, JointTarget):
            tools = self.kinematics.placements(asked.positions)
            places = [(np.asarray(tool.translation), tool.rotation) for tool in tools]
            proposed = self._axes_of(places, widths, asked.positions)
        else:
            proposed = self._axes_of([(asked.position, asked.rotation)], widths, result.wanted)
        return self._decision(now, proposed, scale, result.step)

    def _grip(self, openings: tuple[float | None, ...]) -> Reason:
        """Move each gripper towards its opening, m, for one tick; returns the first correction."""
        reasons = [
            Reason.OK if opening is None else gripper.step(opening)
            for gripper, opening in zip(self._grippers, openings, strict=True)
        ]  # fmt: skip
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
            return SafetyDecision(
                machine.state, machine.reason.label, sentence, speed_scale=0.0, observation_age=age
            )  # fmt: skip
        step, openings = step or self._motion.joints.current, self.gripper_openings
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
