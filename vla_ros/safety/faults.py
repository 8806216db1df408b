"""The fault table: what may go wrong, and what the layer must do about it, each tried on a supervisor in shadow.

    rows = run_faults(contract, parameters)
    missed = [row for row in rows if not row.stopped]

A row is stopped when the state and the reason are the expected ones, within the expected time, the arm comes to rest
where it must, and no command broke a limit by arithmetic that knows nothing of the filter. The faults themselves are
in `faults_input` (what comes in) and `faults_motion` (what is asked for, and what the operator does).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.shadow import CHUNK_TICKS, Shadow
from vla_ros.types import FloatArray, SafetyDecision, SafetyState

DISARMED, RUN, SLOW, HOLD, ESTOP = (
    SafetyState.DISARMED, SafetyState.RUN, SafetyState.SLOW, SafetyState.HOLD, SafetyState.ESTOP
)  # fmt: skip

REST_TICKS = 40
"""An arm that must stop rests after so many ticks: 2.175 rad/s at 7.5 rad/s^2 take 29, and jerk and delay the rest."""

ROUNDING = 1e-6
WORKSPACE_SLACK = 1e-3
"""The tool may be this far beyond a face, m."""

RECOVERY_SLACK = 1e-3
"""A joint on its way back into its limits may waver by this, rad."""


@dataclass(frozen=True)
class FaultRow:
    """What one fault led to: `expected` and `got` are "STATE: reason", `sentence` says the rest."""

    name: str
    expected: str
    got: str
    stopped: bool
    sentence: str


@dataclass
class Trial:
    """What a fault plays with: the shadow, and what was seen since the fault began."""

    shadow: Shadow
    decisions: list[SafetyDecision] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    check_limits: bool = True

    def tick(self, count: int = 1, sense: bool = True) -> SafetyDecision:
        """Let `count` periods pass, with nothing from the policy."""
        for _ in range(count):
            self.decisions.append(self.shadow.tick(sense))
        return self.decisions[-1]

    def answer(self, answer: str) -> str:
        """Keep what the layer answered."""
        self.answers.append(answer)
        return answer

    def send(self, actions: object, **changes: object) -> str:
        """Send rows of any kind in a chunk of any kind."""
        return self.answer(self.shadow.send(self.shadow.chunk(actions, **changes)))

    def good(self) -> FloatArray:
        """Return the rows of a sound plan."""
        return self.shadow.actions(self.shadow.way((0.0, 0.0, 0.0)))

    def follow(self, places: Callable[[int], FloatArray], ticks: int) -> None:
        """Ask every `CHUNK_TICKS` for the places (k, 3) m that `places` gives for the number of the chunk."""
        for i in range(ticks):
            if i % CHUNK_TICKS == 0:
                self.answer(self.shadow.ask(places(i // CHUNK_TICKS)))
            self.tick()

    def require(self, condition: bool, complaint: str) -> None:
        """Note a complaint when `condition` does not hold."""
        if not condition:
            self.complaints.append(complaint)

    @property
    def reasons(self) -> set[str]:
        """Every reason that was given since the fault began."""
        return {decision.reason for decision in self.decisions} | set(self.answers)

    @property
    def moves(self) -> bool:
        """Say whether the last command was another than the one before."""
        commands = self.shadow.commands
        return len(commands) > 1 and bool((commands[-1] != commands[-2]).any())


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Attributes:
        name: For people.
        play: Brings the fault about and lets time pass, as long as the layer has for its answer.
        state: States that the layer may be in then.
        reason: Reasons of which at least one must have been given since.
        moving: The arm is under way when the fault comes; else the shadow is fresh and disarmed.
        adapt: Changes the contract that is tried on.
        posture: Joint positions (n,) rad to begin at, from the contract.
    """

    name: str
    play: Callable[[Trial], None]
    state: frozenset[SafetyState]
    reason: frozenset[Reason]
    moving: bool = True
    adapt: Callable[[RobotContract], RobotContract] | None = None
    posture: Callable[[RobotContract], FloatArray] | None = None

    @property
    def expected(self) -> str:
        """The expectation as text."""
        states = " or ".join(state.name for state in sorted(self.state))
        return f"{states}: {' or '.join(sorted(reason.label for reason in self.reason))}"


def fault_table() -> tuple[Fault, ...]:
    """Return every fault."""
    from vla_ros.safety import faults_input, faults_motion  # they are made of what stands above

    return (*faults_input.table(), *faults_motion.table())


def run_faults(
    contract: RobotContract, parameters: SafetyParameters, faults: Sequence[Fault] | None = None,
    tell: Callable[[FaultRow], None] = lambda row: None,
) -> list[FaultRow]:  # fmt: skip
    """Inject each fault into a layer of its own, in shadow, and return what came of it.

    Args:
        contract: Of the robot that is to be armed.
        parameters: That it is to be armed with.
        faults: In place of the whole table.
        tell: Called with each row as it comes.
    """
    rows = []
    for fault in fault_table() if faults is None else faults:
        rows.append(_try(fault, contract, parameters))
        tell(rows[-1])
    return rows


def _try(fault: Fault, contract: RobotContract, parameters: SafetyParameters) -> FaultRow:
    try:
        with np.errstate(all="ignore"):  # 1e300 squared overflows, as it should
            return _judge(fault, contract, parameters)
    except Exception as error:  # a layer that raises is one that let the fault through
        return FaultRow(fault.name, fault.expected, f"raised {type(error).__name__}", False, f"It raised: {error}")


def _judge(fault: Fault, contract: RobotContract, parameters: SafetyParameters) -> FaultRow:
    contract = contract if fault.adapt is None else fault.adapt(contract)
    shadow = Shadow(contract, parameters, None if fault.posture is None else fault.posture(contract))
    if fault.moving:
        shadow.move()
    trial = Trial(shadow)
    if fault.moving:
        trial.require(shadow.supervisor.state is RUN and trial.moves, "the arm was not under way before the fault")
    fault.play(trial)
    state, said = shadow.supervisor.state, trial.reasons
    trial.require(state in fault.state, f"the state is {state.name}")
    fitting = [reason.label for reason in fault.reason if reason.label in said]
    trial.require(bool(fitting), f"no such reason was given, only {', '.join(sorted(said)) or 'none'}")
    took = None
    if not fault.state & {RUN, SLOW}:
        took = _ticks_to_rest(trial)
        trial.require(took is not None, f"the arm still moves after {REST_TICKS} ticks")
    if trial.check_limits:
        trial.complaints += broken_limits(shadow)
    reason = shadow.supervisor.reason
    if fitting:
        reason = next(one for one in Reason if one.label == min(fitting))
    sentence = "; ".join(trial.complaints)
    if not sentence:
        sentence = reason.sentence + (f" At rest within {1e3 * took * shadow.period:.0f} ms." if took else "")
    return FaultRow(fault.name, fault.expected, f"{state.name}: {reason.label}", not trial.complaints, sentence)


def _ticks_to_rest(trial: Trial) -> int | None:
    """Return how many ticks with sound states and no policy it takes until the commands stand still."""
    for count in range(REST_TICKS):
        trial.tick()
        if not trial.moves or trial.decisions[-1].joint_positions is None:
            return count
    return None


def broken_limits(shadow: Shadow) -> list[str]:
    """Judge all commands of a shadow by finite differences, and by how far the tool is outside of its box."""
    joints, box, gripper = shadow.contract.joints, shadow.contract.cartesian, shadow.contract.gripper
    q, openings = np.array(shadow.commands), np.array(shadow.openings)
    if not (np.isfinite(q).all() and np.isfinite(openings).all()):
        return ["a command is not finite"]
    failed = []
    still = np.vstack([np.tile(q[0], (3, 1)), q])  # it stood before
    for name, order, limit in (
        ("velocity", 1, joints.velocity), ("acceleration", 2, joints.acceleration), ("jerk", 3, joints.jerk)
    ):  # fmt: skip
        share = float((np.abs(np.diff(still, n=order, axis=0)) / shadow.period**order / limit).max())
        if not share <= 1.0 + ROUNDING:
            failed.append(f"joint {name} reached {share:.3f} of its limit")
    outside = np.maximum(np.maximum(joints.lower - q, q - joints.upper), 0.0)
    if not (outside <= outside[0] + np.where(outside[0] > 0.0, RECOVERY_SLACK, 0.0)).all():
        failed.append(f"a joint left its limits by {float(outside.max()):.4f} rad")
    tools = np.array([shadow.kinematics.placement(row).translation for row in q])
    beyond = np.maximum(np.maximum(box.workspace_lower - tools, tools - box.workspace_upper), 0.0)
    if not (beyond <= beyond[0] + WORKSPACE_SLACK).all():
        failed.append(f"the tool left the workspace by {1e3 * float(beyond.max()):.1f} mm")
    if not ((openings >= gripper.min_opening) & (openings <= gripper.max_opening)).all():
        failed.append("the gripper left its range")
    if not (np.abs(np.diff(openings)) <= gripper.velocity * shadow.period + ROUNDING).all():
        failed.append("the gripper was faster than it can be")
    return failed
