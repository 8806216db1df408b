"""What a fault is, and what it plays with: a layer in shadow, and what was seen of it since the fault began."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.faults.pace import Pace, pace_of
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.shadow import Shadow
from vla_ros.types import FloatArray, SafetyDecision, SafetyState

DISARMED, RUN, SLOW, HOLD, ESTOP = (
    SafetyState.DISARMED, SafetyState.RUN, SafetyState.SLOW, SafetyState.HOLD, SafetyState.ESTOP
)  # fmt: skip

MOVING = frozenset({RUN, SLOW})

REACTION = 2
"""Ticks from the end of a time-out to the first braking command: 20 ms."""


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
    """What a fault plays with: the shadow, how large and quick its arm is, and what was seen since the fault began."""

    shadow: Shadow
    pace: Pace
    decisions: list[SafetyDecision] = field(default_factory=list)
    answers: list[Reason] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    check_limits: bool = True

    def tick(self, count: int = 1, sense: bool = True) -> SafetyDecision:
        """Let `count` periods pass, with nothing from the policy."""
        for _ in range(count):
            self.decisions.append(self.shadow.tick(sense))
        return self.decisions[-1]

    def answer(self, answer: Reason) -> Reason:
        """Keep what the layer answered."""
        self.answers.append(answer)
        return answer

    def send(self, actions: object, **changes: object) -> Reason:
        """Send rows of any kind in a chunk of any kind."""
        return self.answer(self.shadow.send(self.shadow.chunk(actions, **changes)))

    def good(self) -> FloatArray:
        """Return the rows of a sound plan."""
        return self.shadow.actions(self.shadow.way((0.0, 0.0, 0.0)))

    def follow(self, places: Callable[[int], FloatArray], ticks: int) -> None:
        """Ask for the places (k, 3) m that `places` gives for the number of the chunk, for `ticks` table ticks."""
        every = self.shadow.chunk_ticks
        for i in range(self.shadow.ticks(ticks)):
            if i % every == 0:
                self.answer(self.shadow.ask(places(i // every)))
            self.tick()

    def require(self, condition: bool, complaint: str) -> None:
        """Note a complaint when `condition` does not hold."""
        if not condition:
            self.complaints.append(complaint)

    @property
    def reasons(self) -> set[str]:
        """Label of every reason that was given since the fault began."""
        return {decision.reason for decision in self.decisions} | {answer.label for answer in self.answers}

    @property
    def moves(self) -> bool:
        """Say whether the last command was another than the one before."""
        commands = self.shadow.commands
        return len(commands) > 1 and bool((commands[-1] != commands[-2]).any())


Play = Callable[[Trial], None]


def _always(contract: RobotContract) -> bool:
    del contract
    return True


def commands_joints(contract: RobotContract) -> bool:
    """Say whether the policy's actions move the joints."""
    return contract.commands_joints


def commands_tool(contract: RobotContract) -> bool:
    """Say whether the policy's actions move the tool."""
    return not commands_joints(contract)


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
        arrange: Changes the parameters, for the contract that is tried on: what stands in the way.
        posture: Joint positions (n,) rad to begin at, from the contract.
        applies: Whether the contract has what the fault is about; a row that does not apply counts as stopped.
        pace: Whose size and quickness the fault is played to, from the contract as it came: by default the workspace's.
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
        """The expectation as text."""
        states = " or ".join(state.name for state in sorted(self.state))
        reasons = "any reason" if self.reason == set(Reason) else " or ".join(sorted(one.label for one in self.reason))
        return f"{states}: {reasons}"


def holds(name: str, reason: Reason, play: Play, **more: object) -> Fault:
    """A fault that the arm must stop for."""
    return Fault(name, play, frozenset({HOLD}), frozenset({reason}), **more)  # type: ignore[arg-type]


def passes(name: str, reason: Reason, play: Play, state: SafetyState = RUN, **more: object) -> Fault:
    """A fault that is only left out or corrected: the arm goes on."""
    return Fault(name, play, frozenset({state}), frozenset({reason}), **more)  # type: ignore[arg-type]


def corrected(name: str, reasons: frozenset[Reason], play: Play, **more: object) -> Fault:
    """A demand that is carried out as far as it is safe: the arm goes on, within all limits."""
    return Fault(name, play, MOVING, reasons, **more)  # type: ignore[arg-type]
