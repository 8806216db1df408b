"""Converts messages only used by the safety node: heartbeats and statuses."""

from __future__ import annotations

from collections.abc import Mapping

from vla_ros.msg import PolicyStatus, SafetyStatus
from vla_ros.robot.joint_states.report import JointFault
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.safety.watch.policy import Condition, Heartbeat
from vla_ros.types import SafetyDecision, SafetyState

CONDITIONS: Mapping[int, Condition] = {
    PolicyStatus.IDLE: Condition.IDLE,
    PolicyStatus.RUNNING: Condition.RUNNING,
    PolicyStatus.WAITING: Condition.WAITING,
    PolicyStatus.FAULT: Condition.FAULT,
}


MOST_AXES = 32
"""Maximum number of axes in a SafetyStatus; three arms may have more."""

STATE_REASONS: Mapping[JointFault, Reason] = {
    JointFault.JOINTS: Reason.STATE_WIDTH,
    JointFault.NOT_FINITE: Reason.STATE_NOT_FINITE,
    JointFault.OUT_OF_RANGE: Reason.STATE_OUT_OF_RANGE,
    JointFault.FIXED_JOINT: Reason.STATE_FIXED_JOINT,
    JointFault.SOURCE: Reason.STATE_SOURCE,
}
"""Reason for holding the arm, by fault of an unusable joint state."""


def message_to_heartbeat(message: PolicyStatus) -> Heartbeat:
    """Return a message as a heartbeat; a state that the message does not define counts as a fault."""
    condition = CONDITIONS.get(int(message.state), Condition.FAULT)
    computing = message.computing != 0.0  # NaN counts as computing, too
    return Heartbeat(condition, int(message.inferences), computing, str(message.sentence)[:160])


def decision_to_status(
    decision: SafetyDecision, supervisor: SafetySupervisor, now: float, steady_time: float
) -> SafetyStatus:
    """Return the status without its header; `now` is on the supervisor's clock, `steady_time` on the machine's, s."""
    counters, margins = supervisor.counters, supervisor.margins(now)
    first = _first_axis(len(decision.executed), supervisor)
    return SafetyStatus(
        state=int(decision.state),
        state_name=decision.state.name,
        reason_code=supervisor.reason.code,
        reason=decision.reason,
        sentence=decision.sentence,
        armed=supervisor.armed,
        observation_age=-1.0 if decision.observation_age is None else decision.observation_age,
        speed_scale=decision.speed_scale,
        axes=list(decision.executed)[first:],
        proposed=list(decision.proposed.values())[first:],
        executed=list(decision.executed.values())[first:],
        tick=counters.ticks,
        missed_ticks=counters.missed_ticks,
        commands=counters.commands,
        corrections=counters.corrections,
        rejected_chunks=counters.rejected_chunks,
        instruction_sequence=supervisor.instruction_sequence,
        margin_names=list(margins),
        margins=list(margins.values()),
        steady_time=steady_time,
        overruns=counters.overruns,
    )


def _first_axis(axes: int, supervisor: SafetySupervisor) -> int:
    """Return the index of the first of `axes` axes in a status; where they do not fit, only the joints are reported."""
    return 0 if axes <= MOST_AXES else axes - supervisor.contract.joints.count


def braking_status(step: JointStep, supervisor: SafetySupervisor, since: float) -> SafetyStatus:
    """Return the watchdog's status while the control thread is late: the arm brakes, `since` s on the machine's clock.

    It reads nothing that the control thread may be modifying.
    """
    counters, reason = supervisor.counters, Reason.TICK_OVERRUN
    axes = supervisor.contract.joints.names
    return SafetyStatus(
        state=int(SafetyState.SLOW),
        state_name=SafetyState.SLOW.name,
        reason_code=reason.code,
        reason=reason.label,
        sentence=reason.sentence,
        armed=supervisor.armed,
        observation_age=-1.0,
        speed_scale=0.0,
        axes=list(axes),
        proposed=step.positions.tolist(),
        executed=step.positions.tolist(),
        tick=counters.ticks,
        missed_ticks=counters.missed_ticks,
        commands=counters.commands,
        corrections=counters.corrections,
        rejected_chunks=counters.rejected_chunks,
        steady_time=since,
        overruns=counters.overruns,
    )
