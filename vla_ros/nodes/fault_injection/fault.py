"""What a fault in the graph is, and what is written down of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vla_ros.nodes.fault_injection.scenario import Scenario

SLACK = 0.02
"""From the end of a time-out to the first braking command, at most, s: two ticks."""


@dataclass(frozen=True)
class GraphFault:
    """A fault.

    Attributes:
        name: For people.
        row: Of the list of faults that the layer must survive.
        begin: Brings it about and returns when, on the steady clock, s.
        end: Takes it away.
        setup: Which graph it needs.
        state: HOLD or ESTOP (or, while the layer itself hangs, SLOW) where the arm must stop, RUN where it must go on;
            "" where it may do either.
        reasons: Of which one must be given; where there are none, the state alone counts.
        timeout: s in which the fault can be told; `SLACK` later the arm must brake. None where it must not.
        notice: What else may pass before the layer can know, s, and why: the middleware, a camera's period.
        rearm: The documented way on is to arm again.
        rest_within: Longest time until the measured joints rest, s, where nobody is there to say HOLD.
        note: How it is brought about, where that needs saying.
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
        """Longest time from the fault to the first braking command, s."""
        return None if self.timeout is None else self.timeout + self.notice[0] + SLACK


@dataclass
class GraphRow:
    """What one try of a fault led to; times in ms, None when it never came to that.

    Attributes:
        name: Of the fault.
        row: Likewise.
        attempt: Number of the repeat.
        got: State and reason that it led to.
        reaction_ms: From the fault to the tick that brakes, both on the steady clock of the machine.
        deadline_ms: What is right.
        heard_ms: From the fault to the first slower command, as another process heard it.
        stop_ms: From the first braking command to rest.
        analytic_stop_ms: The shortest that is possible, for the joint that needs longest.
        travel_rad: Way of that joint.
        analytic_travel_rad: On the shortest stop.
        resume_ms: From the end of the fault until the policy is followed again.
        commands: Judged by the referee.
        lost: Commands that the recording lost.
        violations: Found in them.
        by_kind: Likewise.
        starved: Tries before, in which the arm held because the machine was too busy to simulate.
        stopped: All was as it must be.
        tried: It could be brought about here.
        sentence: For people.
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
