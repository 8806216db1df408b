"""Campaign of random `kill -9` and SIGSTOP: every node in turn, during motion, then the documented recovery."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vla_ros.errors import InstructionError
from vla_ros.evaluation.journal import Journal
from vla_ros.msg import SafetyStatus
from vla_ros.robot.contract import load_contract
from vla_ros.ros.transitions import GraphError
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety_bench.graph.scenario import Scenario
from vla_ros.safety_bench.graph.setups import started
from vla_ros.safety_bench.graph.stage import Findings
from vla_ros.safety_bench.graph.trial import AT_REST, go_on
from vla_ros.safety_bench.referee.referee import Referee

NODES = ("policy_node", "perception_node", "safety_node", "sim_node", "instruction_node")

LONGEST_RUN, LONGEST_STOP = 1.5, 1.0
"""Upper bounds, s: time from the start of motion until a node is killed or stopped, and duration of a SIGSTOP."""

ANSWER_LIMIT = 3.0
"""Wall-clock time within which the arm must hold, s: the slowest watchdog on a busy machine."""

REARMED = frozenset({"safety_node", "sim_node"})
"""Nodes after whose death the robot must be armed again: the layer has lost its state, or the arm is elsewhere."""


@dataclass
class KillRow:
    """Result of one strike.

    Attributes:
        node: Node that was killed or stopped.
        signal: Signal sent.
        held: Whether the arm came to hold.
        resumed: Whether it followed its policy again after the documented recovery.
        reason: Reported reason of the hold.
        hold_ms: From the strike until the layer reported the hold, or until the measured arm rested if the layer itself
            was killed.
        resume_ms: From the end of the strike until the policy was followed again.
        commands: Number of commands judged by the referee.
        lost: Number of commands missing from the recording.
        violations: Number of violations found.
        by_kind: Violations by kind.
        sentence: Unmet requirement, if any.
    """

    node: str
    signal: str
    held: bool = False
    resumed: bool = False
    reason: str = ""
    hold_ms: float | None = None
    resume_ms: float | None = None
    commands: int = 0
    lost: int = 0
    violations: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    sentence: str = ""


def run_kills(
    robot: str, policy: str, count: int, folder: Path, *, seed: int = 0, resume: bool = False
) -> list[dict[str, Any]]:
    """Strike `count` times and return the rows; `kills.jsonl` in `folder` is written as they arrive."""
    contract, parameters = load_contract(robot), load_parameters()
    referee, journal = Referee(contract, parameters.timing.period), Journal(folder / "kills.jsonl", resume)
    arguments = {"robot": robot, "policy": policy, "device": "cpu", "seed": 1}
    missing = [i for i in range(count) if str(i) not in journal]
    with tqdm(total=count, initial=count - len(missing), desc="kills", unit="kill") as bar:
        while missing:
            with started("plain", arguments, folder / "kills") as running:
                scenario = Scenario(running, "plain", contract, referee, parameters.timing.period)
                while missing:
                    row = strike(scenario, missing[0], seed)
                    journal.add(str(missing.pop(0)), asdict(row))
                    bar.update()
                    if row.sentence:
                        tqdm.write(f"{row.signal} of {row.node}: {row.sentence}")
                    if not row.resumed or running.graph.failure:
                        break  # start a fresh graph for the rest
                scenario.close()
    return [dict(row) for row in journal.rows.values()]


def strike(scenario: Scenario, number: int, seed: int) -> KillRow:
    """Strike once; `number` and `seed` determine the time and the signal."""
    rng = np.random.default_rng([seed, number])
    node = NODES[number % len(NODES)]
    kind = signal.SIGKILL if rng.random() < 0.5 else signal.SIGSTOP
    row, found = KillRow(node, kind.name), Findings()
    try:
        scene = int(rng.integers(100, 1000))
        scenario.prepare(scene)
        time.sleep(float(rng.uniform(0.0, LONGEST_RUN)))
        at = scenario.kill(node, kind)
        if kind is signal.SIGSTOP and node == "safety_node":
            time.sleep(float(rng.uniform(0.2, LONGEST_STOP)))
            scenario.take_away()  # a stopped node cannot report the hold
        _await_hold(scenario, row, at)
        if kind is signal.SIGSTOP:
            time.sleep(float(rng.uniform(0.0, LONGEST_STOP)))
        _resume(scenario, row, kind, found, scene)
        found.add(scenario.judge())
    except (GraphError, InstructionError) as error:
        row.sentence = str(error).splitlines()[0]
        with contextlib.suppress(GraphError):
            scenario.take_away()
        found.add(scenario.judge())
    row.commands, row.lost, row.violations, row.by_kind = found.commands, found.lost, found.violations, found.by_kind
    if row.violations:
        row.sentence = row.sentence or f"{row.violations} violations: {row.by_kind}"
    return row


def _await_hold(scenario: Scenario, row: KillRow, at: float) -> None:
    recorder, observer = scenario.recorder, scenario.observer
    if row.node == "safety_node" and row.signal == "SIGKILL":
        row.held = observer.wait(
            lambda: recorder.measured_at > at + 0.05 and recorder.measured_speed < AT_REST,
            ANSWER_LIMIT,
        )
        row.reason, row.hold_ms = "the controller holds", round(1e3 * (time.monotonic() - at), 1)
    else:
        row.held = observer.wait(lambda: recorder.first(at, SafetyStatus.HOLD) is not None, ANSWER_LIMIT)
        if said := recorder.first(at, SafetyStatus.HOLD):
            row.reason, row.hold_ms = said.reason, round(1e3 * (said.steady - at), 1)
    if not row.held:
        row.sentence = f"the arm did not hold within {ANSWER_LIMIT:.0f} s: {observer.safety.sentence}"


def _resume(scenario: Scenario, row: KillRow, kind: signal.Signals, found: Findings, scene: int) -> None:
    """Recover as documented: processes restart by themselves, safety layer and robot are restarted and rearmed."""
    began = time.monotonic()
    scenario.take_away()
    if kind is signal.SIGKILL and row.node in REARMED:
        found.add(scenario.judge())
        scenario.graph.revive(row.node)
        if row.node == "sim_node":  # it restarts with another scene, which may lack the object of the previous task
            scenario.prepare(scene)
        else:
            scenario.rearm()
    row.resumed = go_on(scenario, found)
    row.resume_ms = round(1e3 * (time.monotonic() - began), 1)
    if not row.resumed:
        row.sentence = row.sentence or f"it did not go on: {scenario.observer.safety.sentence}"


def summarize_kills(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the metrics of a campaign, in total and by node and signal."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(f"{row['signal']} of {row['node']}", []).append(row)

    def figures(some: Sequence[dict[str, Any]]) -> dict[str, Any]:
        holds = [row["hold_ms"] for row in some if row["hold_ms"] is not None]
        return {
            "strikes": len(some),
            "held": sum(row["held"] for row in some),
            "resumed": sum(row["resumed"] for row in some),
            "commands": sum(row["commands"] for row in some),
            "lost": sum(row["lost"] for row in some),
            "violations": sum(row["violations"] for row in some),
            "hold_ms_p50": round(float(np.percentile(holds, 50.0)), 1) if holds else None,
            "hold_ms_p99": round(float(np.percentile(holds, 99.0)), 1) if holds else None,
            "reasons": sorted({row["reason"] for row in some}),
        }

    return {**figures(rows), "groups": {name: figures(some) for name, some in sorted(groups.items())}}
