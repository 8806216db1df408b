"""Definition of a fault, and of the trial that it is injected into: a dry run with its observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.pace import Pace, pace_of
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.types import FloatArray, SafetyDecision, SafetyState

DISARMED, RUN, SLOW, HOLD, ESTOP = (
    SafetyState.DISARMED,
    SafetyState.RUN,
    SafetyState.SLOW,
    SafetyState.HOLD,
    SafetyState.ESTOP,
)

MOVING = frozenset({RUN, SLOW})

REACTION = 2
"""Ticks from the end of a timeout to the first braking command: 20 ms."""


@dataclass(frozen=True)
class FaultRow:
    """Result of one fault: `expected` and `got` are "STATE: reason", `sentence` has the details."""

    name: str
    expected: str
    got: str
    stopped: bool
    sentence: str


@dataclass
class Trial:
    """State of a running trial: the dry run, the pace of its arm, and everything observed since the fault began."""

    shadow: Shadow
    pace: Pace
    decisions: list[SafetyDecision] = field(default_factory=list)
    answers: list[Reason] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    check_limits: bool = True

    def tick(self, count: int = 1, sense: bool = True) -> SafetyDecision:
        """Let `count` periods pass, without input from the policy."""
        for _ in range(count):
            self.decisions.append(self.shadow.tick(sense))
        return self.decisions[-1]

    def answer(self, answer: Reason) -> Reason:
        """Record the layer's answer."""
        self.answers.append(answer)
        return answer

    def send(self, actions: object, **changes: object) -> Reason:
        """Send rows in a chunk; rows and chunk may be invalid."""
        return self.answer(self.shadow.send(self.shadow.chunk(actions, **changes)))

    def good(self) -> FloatArray:
        """Return the rows of a valid plan."""
        return self.shadow.actions(self.shadow.way((0.0, 0.0, 0.0)))

    def follow(self, places: Callable[[int], FloatArray], ticks: int) -> None:
        """Ask for the positions (k, 3) m that `places` returns for each chunk index, for `ticks` table ticks."""
        every = self.shadow.chunk_ticks
        for i in range(self.shadow.ticks(ticks)):
            if i % every == 0:
                self.answer(self.shadow.ask(places(i // every)))
            self.tick()

    def require(self, condition: bool, complaint: str) -> None:
        """Record a complaint if `condition` is false."""
        if not condition:
            self.complaints.append(complaint)

    @property
    def reasons(self) -> set[str]:
        """Labels of all reasons reported since the fault began."""
        return {decision.reason for decision in self.decisions} | {answer.label for answer in self.answers}

    @property
    def moves(self) -> bool:
        """Whether the last command differs from the one before."""
        commands = self.shadow.commands
        return len(commands) > 1 and bool((commands[-1] != commands[-2]).any())


Play = Callable[[Trial], None]


def _always(contract: RobotContract) -> bool:
    del contract
    return True


def commands_joints(contract: RobotContract) -> bool:
    """Return whether the policy's actions command joints."""
    return contract.commands_joints


def commands_tool(contract: RobotContract) -> bool:
    """Return whether the policy's actions command the tool."""
    return not commands_joints(contract)


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Attributes:
        name: User-facing name.
        play: Injects the fault, and lets the time pass that the layer has to react.
        state: Accepted states of the layer afterwards.
        reason: Reasons of which at least one must have been reported.
        moving: Whether the arm is moving when the fault begins; else the dry run starts disarmed.
        adapt: Modifies the contract for the trial.
        arrange: Modifies the parameters for the trial's contract, for example adds obstacles.
        posture: Initial joint positions (n,) rad, from the contract.
        applies: Whether the fault can occur with the contract; a row that does not apply counts as stopped.
        pace: Scale and speed of the fault, from the original contract; by default those of its workspace.
    """

    name: str
    play: Callable[[Trial], None]
    state: frozenset[SafetyState]
    reason: frozenset[Reason]
    moving: bool = True
    adapt: Callable[[RobotContract], RobotContract] | None = None
    arrange: Callable[[SafetyParameters, RobotContract], SafetyParameters] | None = None
    posture: Callable[[RobotContract], FloatArray] | None = None
    pace: Callable[[RobotContract], Pace] = pace_of
    applies: Callable[[RobotContract], bool] = _always

    @property
    def expected(self) -> str:
        """Expected states and reasons as text."""
        states = " or ".join(state.name for state in sorted(self.state))
        reasons = "any reason" if self.reason == set(Reason) else " or ".join(sorted(one.label for one in self.reason))
        return f"{states}: {reasons}"


def holds(name: str, reason: Reason, play: Play, **more: object) -> Fault:
    """Return a fault for which the arm must hold."""
    return Fault(name, play, frozenset({HOLD}), frozenset({reason}), **more)  # type: ignore[arg-type]


def passes(name: str, reason: Reason, play: Play, state: SafetyState = RUN, **more: object) -> Fault:
    """Return a fault that is ignored or corrected: the arm continues."""
    return Fault(name, play, frozenset({state}), frozenset({reason}), **more)  # type: ignore[arg-type]


def corrected(name: str, reasons: frozenset[Reason], play: Play, **more: object) -> Fault:
    """Return a demand that is executed as far as it is safe: the arm continues, within all limits."""
    return Fault(name, play, MOVING, reasons, **more)  # type: ignore[arg-type]
