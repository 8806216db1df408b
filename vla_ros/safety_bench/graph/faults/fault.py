"""Description and result of a fault in the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vla_ros.safety_bench.graph.scenario import Scenario

SLACK = 0.02
"""Maximum time from the end of a timeout to the first braking command, s: two ticks."""


@dataclass(frozen=True)
class GraphFault:
    """A fault to inject.

    Attributes:
        name: Display name.
        row: Row in the list of faults that the safety layer must survive.
        begin: Injects it and returns the time of injection, s on the steady clock.
        end: Removes it.
        setup: Graph that it needs.
        state: HOLD or ESTOP (or SLOW while the layer itself hangs) if the arm must stop, RUN if it must continue, ""
            if it may do either.
        reasons: Accepted reasons, one of which must be reported; if empty, only the state is checked.
        timeout: Time within which the layer can detect the fault, s; it must brake `SLACK` later. None: no deadline.
        notice: Additional delay before the layer can know, s, and its cause: the middleware, a camera's period.
        rearm: The documented recovery is to arm again.
        rest_within: Maximum time until the measured joints rest, s, if no node is left to report HOLD.
        note: How the fault is injected, where that is not obvious.
    """

    name: str
    row: str
    begin: Callable[[Scenario], float]
    end: Callable[[Scenario], None] = lambda scenario: None
    setup: str = "plain"
    state: str = "HOLD"
    reasons: tuple[str, ...] = ()
    timeout: float | None = 0.0
    notice: tuple[float, str] = (0.0, "")
    rearm: bool = False
    rest_within: float | None = None
    note: str = ""

    @property
    def deadline(self) -> float | None:
        """Maximum time from the fault to the first braking command, s."""
        return None if self.timeout is None else self.timeout + self.notice[0] + SLACK


@dataclass
class GraphRow:
    """Result of one attempt at a fault. Times in ms, None if the event never happened.

    Attributes:
        name: Name of the fault.
        row: Row of the fault.
        attempt: Index of the repetition.
        got: Resulting state and reason.
        reaction_ms: From the fault to the tick that brakes, both on the machine's steady clock.
        deadline_ms: Maximum allowed reaction time.
        heard_ms: From the fault to the first slower command, as received by another process.
        stop_ms: From the first braking command to rest.
        analytic_stop_ms: Shortest possible stop of the joint that needs longest.
        travel_rad: Travel of that joint during the stop.
        analytic_travel_rad: Its travel during the shortest possible stop.
        resume_ms: From the end of the fault until the policy is followed again.
        commands: Number of commands judged by the referee.
        lost: Number of commands missing from the recording.
        violations: Number of violations found.
        by_kind: Violations by kind.
        starved: Number of earlier attempts in which the arm held because the machine was too busy to simulate.
        stopped: All requirements were met.
        tried: The fault could be injected on this machine.
        sentence: Human-readable result.
    """

    name: str
    row: str
    attempt: int = 0
    got: str = ""
    reaction_ms: float | None = None
    deadline_ms: float | None = None
    heard_ms: float | None = None
    stop_ms: float | None = None
    analytic_stop_ms: float | None = None
    travel_rad: float | None = None
    analytic_travel_rad: float | None = None
    resume_ms: float | None = None
    commands: int = 0
    lost: int = 0
    violations: int = 0
    by_kind: Mapping[str, Any] = field(default_factory=dict)
    starved: int = 0
    stopped: bool = False
    tried: bool = True
    sentence: str = ""
