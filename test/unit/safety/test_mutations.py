"""Checks of the safety layer taken away, one by one, by rewriting the very line that makes them.

A row of the fault table that stays stopped without its check says nothing. Each mutation names the method, the text
that is taken out of it, what stands there instead, and the rows that must turn red.
"""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import pytest

from vla_ros.actions import rotations
from vla_ros.robot import contract as contracts
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.sections import arm as arm_contract
from vla_ros.robot.sections import section
from vla_ros.safety import chunk_gate, parameters
from vla_ros.safety.chunk_gate import ChunkGate
from vla_ros.safety.contact.contact import ContactMonitor
from vla_ros.safety.contact.momentum_observer import MomentumObserver
from vla_ros.safety.measurement.following import FollowMonitor
from vla_ros.safety.measurement.measured_motion import MeasuredMotion
from vla_ros.safety.measurement.posture_jumps import PostureJumps
from vla_ros.safety.measurement.state_monitor import StateMonitor
from vla_ros.safety.motion import obstacles
from vla_ros.safety.motion.cartesian_filter import CartesianFilter
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.motion.envelope import Envelope
from vla_ros.safety.motion.gripper_filter import GripperFilter
from vla_ros.safety.motion.joint_motion import JointMotion
from vla_ros.safety.motion.motion import Motion
from vla_ros.safety.motion.plan_follower import PlanFollower
from vla_ros.safety.selftest.table import fault_table, run_faults
from vla_ros.safety.state_machine import StateMachine
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.safety.watch.command_gap import CommandGap
from vla_ros.safety.watch.instruction import InstructionWatch
from vla_ros.safety.watch.policy import PolicyWatch
from vla_ros.safety.watch.tick import TickWatch
from vla_ros.safety.watch.tick_schedule import TickSchedule


@dataclass(frozen=True)
class Edit:
    """In `owner.name`, `old` becomes `new`; the text must stand there exactly once."""

    owner: Any
    name: str
    old: str
    new: str

    def apply(self, monkeypatch: pytest.MonkeyPatch, sources: dict[str, str]) -> None:
        """Rewrite the function until the test is over; `sources` has what was rewritten before."""
        raw = inspect.getattr_static(self.owner, self.name)
        function: FunctionType = raw if isinstance(raw, FunctionType) else raw.fget
        source = sources.get(function.__qualname__) or textwrap.dedent(inspect.getsource(function))
        assert source.count(self.old) == 1, f"{self.name} holds {self.old!r} {source.count(self.old)} times"
        source = sources[function.__qualname__] = source.replace(self.old, self.new)
        made = dict(function.__globals__)
        exec(compile(f"from __future__ import annotations\n{source}", self.name, "exec"), made)
        # The code alone is exchanged: whoever holds the function already has the rewritten one, too.
        monkeypatch.setattr(function, "__code__", made[self.name].__code__)


@dataclass(frozen=True)
class Mutation:
    """Some checks taken away, and the rows that must notice."""

    name: str
    edits: tuple[Edit, ...]
    rows: tuple[str, ...]


def edit(owner: Any, name: str, old: str, new: str) -> Edit:
    return Edit(owner, name, old, new)


NO_REACH = edit(chunk_gate, "_plausible", "(np.abs(group.to_si(columns)) <= most).all()", "True")
NO_FULL_REACH = edit(chunk_gate, "_plausible", "(np.abs(columns) <= full * LARGEST_REACH).all()", "True")
NO_LATER_REACH = edit(ChunkGate, "_in_range", "(np.abs(trajectory.positions) <= LARGEST_REACH).all()", "True")
NO_SLACK = edit(
    chunk_gate,
    "_openings_in_range",
    "<= widest + _RANGE_SLACK * widest",
    "<= np.inf",
)
NO_FINITE = edit(
    ChunkGate,
    "_judge_form",
    "(np.isfinite(actions).all() and np.isfinite([chunk.trust, chunk.instruction_sequence]).all())",
    "True",
)
NO_FINITE_START = edit(
    chunk_gate,
    "_believes_pose",
    "np.isfinite(pose.position).all()\n        and np.isfinite(pose.quaternion).all()",
    "True",
)

MUTATIONS = (
    Mutation(
        "a contact is not looked for by position",
        (edit(ContactMonitor, "_by_tracking", "residual > limits.tracking", "residual > np.inf"),),
        ("the arm meets something immovable",),
    ),
    Mutation(
        "a contact is not looked for by effort",
        (edit(ContactMonitor, "_by_effort", "_pushed(limits.effort)", "_pushed(np.inf * limits.effort)"),),
        ("something presses on the arm",),
    ),
    Mutation(
        "the weight of a payload is a contact",
        (edit(MomentumObserver, "without_payload", "residual - np.multiply.outer(mass, weight)", "2.0 * residual"),),
        ("the gripper takes its heaviest payload",),
    ),
    Mutation(
        "numbers of a chunk may be anything but numbers",
        (NO_FINITE,),
        (
            "an action is NaN",
            "an action is Inf",
            "an action is -Inf",
            "the last value of a chunk is NaN",
            "a rotation is Inf",
            "trust is NaN",
            "a quaternion is NaN",
        ),
    ),
    Mutation(
        "numbers of a chunk may be of any size",
        (NO_REACH, NO_FULL_REACH, NO_LATER_REACH, NO_SLACK),
        (
            "an action is 1e300",
            "an action is 50 m",
            "a gripper value is 1e300",
        ),
    ),
    Mutation(
        "denormal numbers are refused",
        (edit(ChunkGate, "_judge_form", "np.isfinite(actions).all()", "(actions == 0).any()"),),
        ("all actions are denormal",),
    ),
    Mutation(
        "a chunk may have any shape",
        (
            edit(ChunkGate, "_judge_form", "actions.ndim != 2 or not 1 <= len(actions) <= space.horizon", "False"),
            edit(ChunkGate, "_judge_form", "actions.shape[1] != space.width", "False"),
            edit(ChunkGate, "_judge_form", 'actions.dtype.kind not in "fiu"', "False"),
            edit(ChunkGate, "judge", "return Reason.CHUNK_SHAPE", "return Reason.OK"),
        ),
        (
            "a chunk has a column too few",
            "a chunk has a column too many",
            "a chunk has no rows",
            "a chunk has a row too many",
            "a chunk has no columns",
            "a chunk is ragged",
            "a chunk holds words",
            "a chunk is a vector",
        ),
    ),
    Mutation(
        "any specification will do",
        (edit(ChunkGate, "_judge_form", "chunk.specification != space.fingerprint", "False"),),
        ("another specification",),
    ),
    Mutation(
        "any period will do",
        (edit(ChunkGate, "_judge_form", "abs(chunk.period - space.period) <= 1e-3 * space.period", "True"),),
        ("another period", "the period is zero", "the period is NaN"),
    ),
    Mutation(
        "trust does not count",
        (
            edit(ChunkGate, "_judge_service", "self._parameters.trust.hold <= chunk.trust <= 1.0", "True"),
            edit(PlanFollower, "speed_scale", "min(trust / self._trust.slow, 1.0)", "1.0"),
        ),
        ("the policy does not trust its plan", "the policy trusts its plan little"),
    ),
    Mutation(
        "quaternions may have any norm",
        (edit(rotations, "matrix_from_quaternion", "abs(norm - 1.0) <= UNIT_TOLERANCE", "True"),),
        ("a quaternion is zero", "a quaternion is twice as long"),
    ),
    Mutation(
        "quaternions are unit to the last bit",
        (edit(rotations, "matrix_from_quaternion", "<= UNIT_TOLERANCE", "<= 1e-9"),),
        ("a quaternion is unit within 0.0005",),
    ),
    Mutation(
        "a chunk may start anywhere",
        (
            NO_FINITE_START,
            edit(chunk_gate, "_believes_pose", "(np.abs(pose.position) <= LARGEST_REACH).all()", "True"),
            edit(chunk_gate, "_believes_pose", "abs(np.linalg.norm(pose.quaternion) - 1.0) <= 1e-3", "True"),
        ),
        (
            "the starting pose is NaN",
            "the starting pose is 1e300 m away",
            "the starting quaternion is zero",
            "the starting quaternion is not unit",
        ),
    ),
    Mutation(
        "a stamp may be none",
        (edit(ChunkGate, "_judge_time", "not stamp > 0.0", "False"),),
        ("the stamp is zero", "the stamp is NaN"),
    ),
    Mutation(
        "a stamp may lie in the future",
        (edit(ChunkGate, "_judge_time", "stamp <= sensor_time + timing.future_tolerance", "True"),),
        ("the stamp is 0.2 s ahead", "the stamp is an hour ahead"),
    ),
    Mutation(
        "an observation may be of any age",
        (
            edit(ChunkGate, "_judge_time", "sensor_time - stamp <= timing.observation_hold_age", "True"),
            edit(PlanFollower, "fault", "age <= timing.observation_hold_age", "True"),
        ),
        ("the observation is 2 s old", "the policy repeats an old observation"),
    ),
    Mutation(
        "chunks have no order",
        (
            edit(ChunkGate, "_judge_time", "if stamp < self._last_stamp", "if False"),
            edit(
                ChunkGate, "_judge_time", "stamp == self._last_stamp and chunk.sequence <= self._last_sequence", "False"
            ),
        ),
        ("chunks out of order", "the same chunk twice"),
    ),
    Mutation(
        "a refused chunk counts as a plan that has come",
        (
            edit(
                SafetySupervisor,
                "refuse_chunk",
                "if reason in MALFORMED",
                "self._plan.accepted = self._plan.accepted and replace(self._plan.accepted, received=now)\n"
                "    if reason in MALFORMED",
            ),
        ),
        ("another sender of chunks",),
    ),
    Mutation(
        "stop is a word like any other",
        (
            edit(SafetySupervisor, "receive_instruction", "instruction.kind is InstructionKind.STOP", "False"),
            edit(SafetySupervisor, "receive_instruction", "self._hold(Reason.INSTRUCTION_NEW)", "pass"),
        ),
        ("'stop' in motion", "chunks after 'stop'", "a new instruction in motion", "200 instructions at once"),
    ),
    Mutation(
        "chunks serve any instruction",
        (
            edit(ChunkGate, "_judge_service", "chunk.instruction_sequence < self.instruction.sequence", "False"),
            edit(ChunkGate, "_judge_service", "chunk.instruction_sequence > self.instruction.sequence", "False"),
        ),
        ("chunks for an old instruction", "chunks for an unknown instruction"),
    ),
    Mutation(
        "the instruction node has no heartbeat",
        (edit(InstructionWatch, "fault", "0.0 <= silence <= self._timeout", "True"),),
        ("the instruction node falls silent",),
    ),
    Mutation(
        "a late heartbeat of the instruction node is a lost one",
        (edit(InstructionWatch, "fault", "0.0 <= silence <= self._timeout", "0.0 <= silence <= 0.05"),),
        ("the instruction node is late",),
    ),
    Mutation(
        "the policy has no heartbeat",
        (
            edit(PolicyWatch, "fault", "beat is None or not 0.0 <= silence <= timing.policy_timeout", "beat is None"),
            edit(PolicyWatch, "fault", "now - self._well <= timing.policy_timeout", "True"),
        ),
        (
            "the policy dies",
            "the policy dies, and chunks go on coming",
            "the policy is at fault",
            "the policy waits for an observation",
            "the policy has no task any more",
            "the policy dies and is started again",
        ),
    ),
    Mutation(
        "a policy that was never heard of is well",
        (
            edit(PolicyWatch, "fault", "beat is None or not 0.0 <= silence <= timing.policy_timeout", "False"),
            edit(PolicyWatch, "fault", "busy <= timing.inference_timeout", "True"),
            edit(PolicyWatch, "fault", "now - self._well <= timing.policy_timeout", "True"),
        ),
        ("the policy was never heard of",),
    ),
    Mutation(
        "an inference may take for ever",
        (edit(PolicyWatch, "fault", "busy <= timing.inference_timeout", "True"),),
        ("the policy hangs in one inference",),
    ),
    Mutation(
        "progress does not count",
        (
            edit(
                PolicyWatch,
                "receive",
                "newest is None or not beat.computing or beat.inferences != newest.inferences",
                "newest is None",
            ),
        ),
        ("the policy computes without a pause",),
    ),
    Mutation(
        "a late heartbeat is a lost one",
        (edit(PolicyWatch, "fault", "0.0 <= silence <= timing.policy_timeout", "silence <= 0.03"),),
        ("the policy misses some heartbeats",),
    ),
    Mutation(
        "a late heartbeat does not slow the arm down",
        (edit(PolicyWatch, "late", "now - self._received <= self._timing.policy_slow", "True"),),
        ("the policy misses many heartbeats",),
    ),
    Mutation(
        "one fault of the policy is enough",
        (edit(PolicyWatch, "fault", "now - self._well <= timing.policy_timeout", "now == self._well"),),
        ("one inference of the policy fails",),
    ),
    Mutation(
        "chunks have no deadline",
        (
            edit(PlanFollower, "fault", "0.0 <= silence <= timing.chunk_timeout", "True"),
            edit(PlanFollower, "fault", "self._elapsed <= duration + timing.exhausted_grace", "True"),
        ),
        ("the policy falls silent", "the policy is slower than its deadline", "the chunk runs out"),
    ),
    Mutation(
        "a robot is always armed",
        (
            edit(SafetySupervisor, "tick", "if not self.commanding", "if False"),
            edit(SafetySupervisor, "_decision", "if not self.commanding", "if False"),
        ),
        ("chunks while disarmed",),
    ),
    Mutation(
        "arming needs no joint state",
        (
            edit(StateMonitor, "fault", "if self._fault is not Reason.OK", "if False"),
            edit(StateMonitor, "fault", "not 0.0 <= now - self._received <= self._timeout", "False"),
        ),
        ("no joint state has come",),
    ),
    Mutation(
        "joints may measure anything",
        (
            edit(StateMonitor, "_judge", "np.isfinite(values).all()", "True"),
            edit(StateMonitor, "_judge", "(np.abs(values[:-1]) <= LARGEST_VALUE).all()", "True"),
        ),
        (
            "a measured joint is NaN",
            "a measured joint is Inf",
            "a measured joint is 1e300",
            "a measured velocity is NaN",
            "a measured velocity is 1e300",
            "the measured gripper is NaN",
            "the measured gripper is Inf",
            "a state's stamp is NaN",
        ),
    ),
    Mutation(
        "denormal velocities are refused",
        (
            edit(
                StateMonitor,
                "_judge",
                "(np.abs(values[:-1]) <= LARGEST_VALUE).all()",
                "not ((values != 0) & (np.abs(values) < 1e-300)).any()",
            ),
        ),
        ("a measured velocity is denormal",),
    ),
    Mutation(
        "a state may have any joints",
        (
            edit(StateMonitor, "_judge", "state.joint_positions.shape != (self._joints,)", "False"),
            edit(StateMonitor, "refuse", "self._fault = reason", "pass"),
        ),
        ("a state has too few joints", "a state has too many joints", "a state lacks joints by name"),
    ),
    Mutation(
        "joint states have no deadline",
        (
            edit(StateMonitor, "fault", "not 0.0 <= now - self._received <= self._timeout", "False"),
            edit(FollowMonitor, "judge", "self._followed and fault is not Reason.OK", "False"),
        ),
        (
            "the joint states stop",
            "the driver repeats one state",
            "the machine sleeps for an hour",
            "the steady clock runs back",
            "simulation time stands still, and goes on",
        ),
    ),
    Mutation(
        "one late state is a fault",
        (edit(StateMonitor, "receive", "reason is not Reason.STATE_OUT_OF_ORDER", "True"),),
        ("one state comes late", "every other state is an old one"),
    ),
    Mutation(
        "the arm may be anywhere",
        (edit(FollowMonitor, "judge", "not excess[worst] <= self._motion.tracking_tolerance", "False"),),
        ("the arm is far from its command",),
    ),
    Mutation(
        "the arm need not follow",
        (
            edit(FollowMonitor, "_verdict", "not excess[worst] <= self._motion.follow_tolerance", "False"),
            edit(FollowMonitor, "judge", "not excess[worst] <= self._motion.tracking_tolerance", "False"),
            edit(FollowMonitor, "_verdict", "np.asarray(still) > FROZEN_WINDOWS * self._window", "np.asarray(False)"),
        ),
        (
            "positions freeze with fresh stamps",
            "positions freeze with fresh stamps in slow motion",
            "joint states come too late",
            "a joint has lost its zero",
            "two joints are swapped",
        ),
    ),
    Mutation(
        "a posture that the arm has left is commanded on",
        (edit(SafetySupervisor, "_give_up_if_lost", "self._following.lost and", "False and"),),
        ("the held arm is guided away by hand", "the arm is guided away in an emergency stop"),
    ),
    Mutation(
        "a gap of the commands is over when it is over",
        (edit(CommandGap, "over", "not now - last[1] <= self._timeout", "False"),),
        ("the arm is moved while the layer is held up",),
    ),
    Mutation(
        "whoever disarms does not wait for the way back from a contact",
        (
            edit(SafetySupervisor, "_retreat", "not self._relieves", "not self.armed"),
            edit(SafetySupervisor, "_finish_disarming", "and not retreating", ""),
        ),
        ("disarmed as soon as a contact is found", "emergency stop as soon as a contact is found"),
    ),
    Mutation(
        "an arm is where it is measured, whatever was commanded",
        (edit(MeasuredMotion, "shows", "(seen[joints] >= SHOWN_AFTER).all()", "True"),),
        ("a driver that has frozen in motion is armed",),
    ),
    Mutation(
        "no joint is measured to jump",
        (edit(PostureJumps, "_take", "flatnonzero(np.abs(step) > self._reach)", "flatnonzero(step > 9e9)"),),
        ("a joint loses its zero while disarmed, and is armed",),
    ),
    Mutation(
        "it may be armed in the middle of a stop",
        (edit(SafetySupervisor, "arm", "if self._commanding", "if False"),),
        ("disarmed and armed at once, in motion",),
    ),
    Mutation(
        "one joint state is enough to arm",
        (edit(SafetySupervisor, "arm", "unrest is not Reason.OK", "False"),),
        (
            "the driver reports no velocity, and the arm moves",
            "the joint state at arming is false",
            "a joint state before arming was false",
            "joint states of two arms at arming",
        ),
    ),
    Mutation(
        "clocks do not jump",
        (
            edit(
                StateMonitor, "receive", "self.jumped or not 0.0 <= gap <= CLOCK_JUMP + (now - self._received)", "False"
            ),
            edit(
                StateMonitor, "_judge", "self.jumped, self.sound_in_row, self._older_stamp = True, 0, -np.inf", "pass"
            ),
        ),
        (
            "the sensors' clock jumps an hour ahead, and the arm goes on",
            "the sensors' clock jumps an hour back, and the arm goes on",
            "the sensors' clock jumps 1.5 s ahead, and the arm goes on",
            "the sensors' clock jumps 0.5 s ahead, and the arm goes on",
        ),
    ),
    Mutation(
        "simulation time runs as the steady clock does",
        (
            edit(
                StateMonitor,
                "receive",
                "not 0.0 <= gap <= CLOCK_JUMP + (now - self._received)",
                "abs(gap - (now - self._received)) > 0.005",
            ),
        ),
        ("simulation time runs at a tenth", "simulation time runs three times as fast"),
    ),
    Mutation(
        "missed ticks do not count",
        (
            edit(TickWatch, "count", "max(round(gap) - 1, 0)", "0"),
            edit(TickSchedule, "place", "missed = max(ticks, 0)", "missed = 0"),
        ),
        ("4 ticks are missed", "12 ticks are missed"),
    ),
    Mutation(
        "the workspace has no faces",
        (
            edit(CartesianFilter, "project", "if distance == 0.0", "if True"),
            edit(
                CartesianFilter,
                "faces",
                "np.concatenate([position - self._lower, self._upper - position])",
                "np.full(6, 10.0)",
            ),
            edit(Envelope, "_excess_of_tool", "_excess(tools, self._lower, self._upper)", "np.zeros(3)"),
        ),
        (
            "the target is in front of the workspace",
            "the target is behind the workspace",
            "the target is left of the workspace",
            "the target is right of the workspace",
            "the target is above the workspace",
            "the target is below the workspace",
        ),
    ),
    Mutation(
        "shapes may touch",
        (
            edit(CollisionModel, "violated_along", "if len(suspects) == 0", "if True"),
            edit(CollisionModel, "approaches", "if len(near) == 0", "if True"),
        ),
        (
            "the target is under the table",
            "the target is inside the arm",
            "a box is in the way, and the arm comes back",
            "a sphere is in the way, and the arm comes back",
            "a cylinder is in the way, and the arm comes back",
            "a capsule is in the way, and the arm comes back",
            "the arm starts too near to the table",
        ),
    ),
    Mutation(
        "near a singularity nothing is damped",
        (
            edit(Motion, "_velocities", "if solution.damped and limited is not Reason.JOINT_POSITION", "if False"),
            edit(Motion, "_blocked", "if len(hit)", "if False"),
            edit(Motion, "_held_back", "len(held) and held[0] < len(near.pairs)", "False"),
            edit(
                Motion, "_bounds", "self._approach(joints.upper - margin - current.positions, brake)", "joints.velocity"
            ),
            edit(Envelope, "judge", "(excess <= allowed).all()", "True"),
        ),
        ("the arm is stretched, and comes back",),
    ),
    Mutation(
        "the tool has no limits of its own",
        (
            edit(CartesianFilter, "_advance", "wanted = _capped(wanted, highest)", "pass"),
            edit(CartesianFilter, "capped", "if share == 1.0", "if True"),
            edit(
                CartesianFilter,
                "_advance",
                "_capped(reached, max(highest, _norm(velocity) - limits.acceleration * self._period))",
                "reached",
            ),
            edit(CartesianFilter, "excess_speed", "max(0.0, _norm(target.linear) - self._linear.velocity)", "0.0"),
            edit(CartesianFilter, "excess_speed", "max(0.0, _norm(target.angular) - self._angular.velocity)", "0.0"),
            edit(CartesianFilter, "project", "if distance == 0.0", "if True"),
            edit(Motion, "_velocities", "fastest >= 1.0 - 1e-6", "False"),
        ),
        (
            "a leap of 0.3 m in one row",
            "a leap of 3 m in one row",
            "a turn of 10 rad/s",
            "the direction changes with every row",
            "noise in place of a plan",
        ),
    ),
    Mutation(
        "joints have no limits of acceleration",
        (
            edit(
                JointMotion,
                "propose",
                "return step if self._within_limits(step) else None",
                "step.positions[:] = current.positions + self._period * velocities * 4.0; return step",
            ),
        ),
        ("the direction changes with every chunk",),
    ),
    Mutation(
        "corrections do not count",
        (edit(SafetySupervisor, "_follow", "self._braked_in_row + 1 if result.braked else 0", "0"),),
        ("corrections without end",),
    ),
    Mutation(
        "the gripper may do anything",
        (
            edit(
                GripperFilter,
                "step",
                "min(max(target, self._contract.min_opening), self._contract.max_opening)",
                "target",
            ),
            edit(
                GripperFilter,
                "step",
                "self._direction in (0, direction) or self._since_reversal >= self._reversal_time",
                "True",
            ),
        ),
        (
            "the gripper opens and closes with every row",
            "the gripper is asked for too wide an opening",
            "the gripper is asked for a negative opening",
        ),
    ),
    Mutation(
        "what is outside may not come back",
        (edit(Envelope, "judge", "(excess <= allowed).all()", "not excess.any()"),),
        ("a joint starts outside of its limits and comes back",),
    ),
    Mutation(
        "an arm is armed wherever it is, and however it moves",
        (
            edit(SafetySupervisor, "arm", "(outside <= motion.recoverable_violation).all()", "True"),
            edit(SafetySupervisor, "arm", "(np.abs(state.joint_velocities) <= motion.arming_speed).all()", "True"),
        ),
        (
            "a joint starts far outside of its limits",
            "the arm is pushed while it is armed",
            "the layer dies and is started again",
        ),
    ),
    Mutation(
        "what the solver says is done",
        (
            edit(
                Motion,
                "_follow_tool",
                'return MotionResult(self.brake(), current.positions, Reason.SOLVER, f"({error})", True)',
                "velocities, limited, where = current.velocities, Reason.OK, ''",
            ),
            edit(Motion, "_take", "if step is None", "if step is None and not self.joints.__dict__.update(_x=1)"),
            edit(
                JointMotion,
                "propose",
                "not (np.abs(velocities) <= limit * (1.0 + TOLERANCE)).all()",
                "not setattr(self, '_stopped_rows', -10**6) and False",
            ),
            edit(JointMotion, "propose", "if rows is None", "if rows is None and False"),
            edit(Motion, "brake", "step = self.joints.brake()", "step = self.joints.current"),
        ),
        (
            "the solver finds no solution",
            "the solver returns NaN",
            "the solver returns 1e300",
            "the solver raises",
        ),
    ),
    Mutation(
        "nobody watches over the control thread",
        (edit(Motion, "watchdog_brake", "self.joints.brake()", "pass"),),
        ("the solver hangs",),
    ),
    Mutation(
        "the emergency stop does not stop",
        (edit(StateMachine, "press_estop", "self._enter(SafetyState.ESTOP, Reason.ESTOP_PRESSED, detail)", "pass"),),
        (
            "emergency stop in motion",
            "chunks in an emergency stop",
            "reset while the button is pressed",
            "reset while the arm still moves",
        ),
    ),
    Mutation(
        "the emergency stop does not latch",
        (
            edit(
                StateMachine,
                "release_estop",
                "self._enter(SafetyState.ESTOP, Reason.ESTOP_LATCHED, self.detail)",
                "self._enter(SafetyState.HOLD, Reason.WAITING)",
            ),
        ),
        (
            "emergency stop released without a reset",
            "arming in a latched emergency stop",
            "chunks after the reset",
            "reset, armed again, fresh chunks",
        ),
    ),
    Mutation(
        "a disarmed arm goes on",
        (edit(StateMachine, "disarm", "if self.state in ARMED_STATES", "if False"),),
        ("disarmed in motion",),
    ),
    Mutation(
        "limits may be missing or anything",
        (
            edit(section.Section, "get", "name not in self.values or self.values[name] is None", "False"),
            edit(
                section.Section,
                "get",
                "return self.values[name]",
                "return self.values.get(name, [1.0] * 7 if name == 'jerk' else 1.0)",
            ),
            edit(
                section.Section,
                "vector",
                "not np.isfinite(array).all() or (positive and not (array > 0.0).all())",
                "False",
            ),
            edit(arm_contract, "parse_cartesian", "(lower < upper).all()", "True"),
            edit(
                contracts,
                "parse_contract",
                "find_description(description, where, folder)",
                "share_file('urdf/panda.urdf')",
            ),
            edit(Kinematics, "__init__", "outside.any()", "False"),
            edit(Kinematics, "_check_limit", "~(ours <= described * (1.0 + ROUNDING))", "False"),
        ),
        (
            "a joint limit is missing",
            "a joint limit is NaN",
            "a joint limit is zero",
            "a limit of the tool is missing",
            "the workspace has no inside",
            "the contract allows more than the description",
            "the robot description is not there",
        ),
    ),
    Mutation(
        "parameters may be missing or anything",
        (
            edit(parameters, "_lines", "if missing or unknown", "if False"),
            edit(
                parameters,
                "_section",
                "isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < np.inf",
                "False",
            ),
            edit(
                parameters,
                "_section",
                "return kind(**values)",
                "return kind(**{name: values.get(name, 1.0) for name in types})",
            ),
            edit(
                parameters,
                "_section",
                "for name, value in _lines(content, set(types), where).items():",
                "for name, value in {k: v for k, v in content.items() if k in types}.items():",
            ),
            edit(parameters, "_require", "if not condition", "if False"),
            edit(obstacles, "_obstacle", "if missing or unknown", "if False"),
            edit(
                obstacles,
                "_obstacle",
                "for line, count in LINES[shape].items()}",
                "for line, count in LINES[shape].items() if line in lines}",
            ),
            edit(obstacles, "_obstacle", "np.concatenate(sizes)", "np.concatenate([*sizes, np.ones(1)])"),
        ),
        (
            "a parameter is missing",
            "a parameter is NaN",
            "a parameter is out of range",
            "a parameter is unknown",
            "an obstacle has no size",
        ),
    ),
)


TABLE = {fault.name: fault for fault in fault_table()}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_rows_turn_red_when_their_check_is_taken_away(contract, parameters, monkeypatch, mutation):
    sources: dict[str, str] = {}
    for edit in mutation.edits:
        edit.apply(monkeypatch, sources)
    found = run_faults(contract, parameters, [TABLE[name] for name in mutation.rows])
    assert [one.name for one in found if one.stopped] == []
    assert all(one.sentence for one in found)


def test_every_row_was_seen_failing(contract):
    """Those for plans of joints: `test_joint_faults.py`."""
    of_the_tool = {fault.name for fault in fault_table(contract)}
    assert sorted(name for mutation in MUTATIONS for name in mutation.rows) == sorted(of_the_tool)
