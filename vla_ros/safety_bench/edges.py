"""Edge cases of the safety layer, each run in this process on a supervisor with a plant, and checked.

    rows = run_edges(contract, parameters)
    missed = [row for row in rows if not row.passed]

`line` groups cases by topic; the same lines are also run in the graph (`safety_bench/graph/edges.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety_bench.fuzz import judge_run
from vla_ros.safety_bench.plants import PlantShadow
from vla_ros.safety_bench.referee.referee import Judgement, Referee
from vla_ros.safety_bench.referee.reference_limits import Arming

IN_PROCESS, IN_GRAPH = "in process", "graph"

LINES: Mapping[int, str] = {
    1: "arming before the stop of a disarming has ended",
    2: "arming with false joint states",
    3: "forged or unattainable arming record",
    4: "an arm that is moved away from its command",
    5: "contact with an undeclared object",
    6: "measurements that do not follow the commands",
    7: "stops from publishers with another quality of service",
    8: "release of an emergency stop by another publisher",
    9: "one press among many releases",
    10: "loss of an emergency stop button",
    11: "lifecycle transitions with a latched emergency stop",
    12: "an emergency stop that is published once",
    13: "stop while the instruction node hangs",
    14: "a self-test in motion",
    15: "unauthorized publishers",
    16: "gaps and jitter of the commands",
    17: "thin obstacles and close pairs",
    18: "sizes and parameters at run time",
    19: "descriptions and configuration",
    20: "camera health",
}
"""Topic of each line."""


@dataclass
class EdgeTrial:
    """One trial of a case: its inputs and its findings.

    Attributes:
        contract: Robot contract.
        parameters: Parameters of the safety layer.
        complaints: One message per failed requirement.
        judgement: Violations that the referee found in the commands.
    """

    contract: RobotContract
    parameters: SafetyParameters
    referee: Referee
    complaints: list[str] = field(default_factory=list)
    judgement: Judgement = field(default_factory=Judgement)

    def require(self, right: bool, complaint: str) -> None:
        """Add a complaint unless `right`."""
        if not right:
            self.complaints.append(complaint)

    def judge(self, shadow: PlantShadow, armings: Sequence[Arming]) -> None:
        """Have the referee check a run."""
        self.judgement.add(judge_run(self.referee, shadow, list(armings)))


@dataclass(frozen=True)
class EdgeCase:
    """An edge case; `play` runs it once."""

    line: int
    name: str
    play: Callable[[EdgeTrial], None]


@dataclass
class EdgeRow:
    """Result of a case over all trials."""

    line: int
    name: str
    where: str = IN_PROCESS
    tried: int = 0
    passed: int = 0
    violations: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    sentence: str = ""


def try_edge(case: EdgeCase, contract: RobotContract, parameters: SafetyParameters, referee: Referee) -> EdgeRow:
    """Run a case; one that raises has failed."""
    trial, row = EdgeTrial(contract, parameters, referee), EdgeRow(case.line, case.name, tried=1)
    try:
        case.play(trial)
    except Exception as error:  # any error that a layer raises instead of answering
        trial.complaints.append(f"{type(error).__name__}: {error}")
    row.by_kind = {kind: count for kind, count in trial.judgement.violations.items() if count}
    row.violations = sum(row.by_kind.values())
    if row.by_kind:
        trial.complaints.append(f"violations: {row.by_kind}")
    row.passed, row.sentence = int(not trial.complaints), "; ".join(trial.complaints)
    return row


def run_edges(
    contract: RobotContract,
    parameters: SafetyParameters,
    lines: Sequence[int] = (),
    tell: Callable[[EdgeRow], object] = lambda row: None,
) -> list[EdgeRow]:
    """Run every case of `lines`, by default of all, in this process."""
    from vla_ros.safety_bench.edge_cases import edge_cases

    referee, rows = Referee(contract, parameters.timing.period), []
    for case in edge_cases():
        if not lines or case.line in lines:
            rows.append(try_edge(case, contract, parameters, referee))
            tell(rows[-1])
    return rows
