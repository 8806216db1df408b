"""Campaign of motion on a machine whose CPUs are all busy."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vla_ros.errors import InstructionError
from vla_ros.evaluation.journal import Journal
from vla_ros.robot.contract import load_contract
from vla_ros.ros.transitions import GraphError
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety_bench.graph.burner import Burner
from vla_ros.safety_bench.graph.scenario import Scenario
from vla_ros.safety_bench.graph.setups import started
from vla_ros.safety_bench.referee.referee import Referee
from vla_ros.types import SafetyState

SLICE = 15.0
"""Duration of motion per scene, s."""

GRACE = 120.0
"""Extra time for preparing scenes before the campaign gives up, s."""

FIRST_SEED = 500


@dataclass
class LoadRow:
    """Result of one scene under load.

    Attributes:
        seconds: Duration of motion, wall-clock s.
        ticks: Number of ticks that were due.
        missed_ticks: Number of ticks skipped in gaps between ticks.
        overruns: Number of watchdog commands sent in place of a late one.
        holds: Maps each reason for a hold to its count.
        states: Maps each state to its fraction of the statuses.
        commands: Number of commands judged by the referee.
        lost: Number of commands missing from the recording.
        violations: Number of violations found.
        by_kind: Violations by kind.
        sentence: Unmet requirement, if any.
    """

    seconds: float = 0.0
    ticks: int = 0
    missed_ticks: int = 0
    overruns: int = 0
    holds: dict[str, int] = field(default_factory=dict)
    states: dict[str, float] = field(default_factory=dict)
    commands: int = 0
    lost: int = 0
    violations: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    sentence: str = ""


def run_load(robot: str, policy: str, minutes: float, folder: Path, *, resume: bool = False) -> list[dict[str, Any]]:
    """Move for `minutes` under load and return the rows; `load.jsonl` in `folder` is written as they arrive."""
    contract, parameters = load_contract(robot), load_parameters()
    referee, journal = Referee(contract, parameters.timing.period), Journal(folder / "load.jsonl", resume)
    arguments = {"robot": robot, "policy": policy, "device": "cpu", "seed": 1}
    wanted = 60.0 * minutes
    done = sum(float(row["seconds"]) for row in journal.rows.values())
    give_up = time.monotonic() + 3.0 * max(wanted - done, 0.0) + GRACE
    with tqdm(total=round(wanted), initial=round(min(done, wanted)), desc="motion under load", unit="s") as bar:
        while done < wanted and time.monotonic() < give_up:
            with started("plain", arguments, folder / "load") as running:
                scenario = Scenario(running, "plain", contract, referee, parameters.timing.period)
                burner = Burner(os.cpu_count() or 1)
                try:
                    while done < wanted and time.monotonic() < give_up and not running.graph.failure:
                        row = move(scenario, FIRST_SEED + len(journal.rows), min(SLICE, wanted - done))
                        journal.add(str(len(journal.rows)), asdict(row))
                        done += row.seconds
                        bar.update(round(row.seconds))
                        if row.sentence:
                            tqdm.write(row.sentence)
                finally:
                    burner.close()
                    scenario.close()
    return [dict(row) for row in journal.rows.values()]


def move(scenario: Scenario, seed: int, seconds: float) -> LoadRow:
    """Move in one scene for `seconds` and judge the commands."""
    row = LoadRow()
    try:
        scenario.prepare(seed)
        began = time.monotonic()
        time.sleep(seconds)
        row.seconds = round(time.monotonic() - began, 1)
    except (GraphError, InstructionError) as error:
        row.sentence = str(error).splitlines()[0]
    said = list(scenario.recorder.said)
    if len(said) > 1:
        first, last = said[0], said[-1]
        row.missed_ticks = last.missed_ticks - first.missed_ticks
        row.overruns = last.overruns - first.overruns
        row.ticks = round((last.steady - first.steady) / scenario.period)
        counts = Counter(SafetyState(one.state).name for one in said)
        row.states = {name: round(count / len(said), 4) for name, count in counts.items()}
        # Preparation itself ends a hold ("waiting"); only holds that interrupted motion count.
        row.holds = dict(
            Counter(
                after.reason
                for before, after in pairwise(said)
                if after.state == SafetyState.HOLD and before.state in (SafetyState.RUN, SafetyState.SLOW)
            )
        )
    found = scenario.judge()
    row.commands, row.lost, row.violations, row.by_kind = found.commands, found.lost, found.violations, found.by_kind
    if row.violations:
        row.sentence = f"{row.violations} violations: {row.by_kind}"
    return row


def summarize_load(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the metrics of a campaign."""
    totals = {
        name: sum(row[name] for row in rows)
        for name in ("seconds", "ticks", "missed_ticks", "overruns", "commands", "lost", "violations")
    }
    holds: Counter[str] = Counter()
    for row in rows:
        holds.update(row["holds"])
    weights = sum(row["ticks"] for row in rows) or 1
    names = sorted({name for row in rows for name in row["states"]})
    states = {
        name: round(sum(row["states"].get(name, 0.0) * row["ticks"] for row in rows) / weights, 4) for name in names
    }
    return {
        **totals,
        "scenes": len(rows),
        "not_prepared": sum(row["seconds"] == 0.0 for row in rows),
        "holds": dict(holds),
        "states": states,
        "load_processes": os.cpu_count() or 1,
    }
