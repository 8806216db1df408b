"""Run all faults in the real graph, each in the setup it needs, repeatedly. Result rows are stored as they arrive."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vla_ros.evaluation.journal import Journal
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.ros.transitions import GraphError
from vla_ros.safety.parameters import SafetyParameters, load_parameters
from vla_ros.safety_bench.edges import EdgeRow
from vla_ros.safety_bench.graph.edges import graph_edges, summarize_edges
from vla_ros.safety_bench.graph.faults.fault import GraphFault, GraphRow
from vla_ros.safety_bench.graph.faults.inputs import input_faults
from vla_ros.safety_bench.graph.faults.machine import machine_faults
from vla_ros.safety_bench.graph.faults.processes import process_faults
from vla_ros.safety_bench.graph.faults.sensors import sensor_faults
from vla_ros.safety_bench.graph.scenario import Scenario
from vla_ros.safety_bench.graph.setups import impossible, started
from vla_ros.safety_bench.graph.trial import try_fault
from vla_ros.safety_bench.referee.referee import Referee

FIRST_SEED = 100

ROWS, EDGE_ROWS = "graph.jsonl", "edges.jsonl"

END_LIMIT = 10.0
"""Maximum time to wait for the end of an interrupted process, s."""


def graph_faults(contract: RobotContract, parameters: SafetyParameters) -> list[GraphFault]:
    """Return all faults, grouped by the setup they need."""
    faults = [
        *process_faults(parameters, contract.controllers.command_timeout),
        *sensor_faults(contract, parameters),
        *input_faults(parameters),
        *machine_faults(),
    ]
    return sorted(faults, key=lambda fault: (fault.setup != "plain", fault.setup))


def run_graph_faults(
    robot: str, policy: str, repeats: int, folder: Path, *, resume: bool = False, only: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Inject every fault `repeats` times and return the rows.

    Each graph is supervised from its own process, because a middleware once loaded keeps its configuration.

    Args:
        robot: Robot contract.
        policy: Checkpoint that drives the arm.
        repeats: Number of repetitions.
        folder: Folder for the logs and the rows (`graph.jsonl`).
        resume: Continue from the rows in that file.
        only: Substrings; run only faults whose names contain one of them.
    """
    faults = [
        one
        for one in graph_faults(load_contract(robot), load_parameters())
        if not only or any(word in one.name for word in only)
    ]
    return _run(faults, ROWS, robot, policy, repeats, folder, resume)


def run_graph_edges(
    robot: str, policy: str, repeats: int, folder: Path, *, resume: bool = False, lines: Sequence[int] = ()
) -> list[EdgeRow]:
    """Run every edge case in the graph `repeats` times; the arguments are as in `run_graph_faults`.

    Args:
        robot: Robot contract.
        policy: Checkpoint that drives the arm.
        repeats: Number of repetitions.
        folder: Folder for the logs and the rows (`edges.jsonl`).
        resume: Continue from the rows in that file.
        lines: Run only the cases of these lines; all if empty.
    """
    edges = [edge for edge in graph_edges(load_contract(robot)) if not lines or edge.line in lines]
    rows = _run([edge.fault for edge in edges], EDGE_ROWS, robot, policy, repeats, folder, resume)
    return summarize_edges(edges, [row for row in rows if any(row["name"] == edge.fault.name for edge in edges)])


def _run(
    faults: Sequence[GraphFault], name: str, robot: str, policy: str, repeats: int, folder: Path, resume: bool
) -> list[dict[str, Any]]:
    """Inject `faults` and store the rows in the file called `name`."""
    Journal(folder / name, resume)
    context = multiprocessing.get_context("spawn")
    for setup, group in groupby(faults, key=lambda fault: fault.setup):
        together = list(group)
        wanted = [_key(fault, i) for i in range(repeats) for fault in together]
        before = -1
        while missing := [key for key in wanted if key not in Journal(folder / name, resume=True)]:
            if len(missing) == before:
                raise GraphError(f"the process that watches over the graph '{setup}' ended without a result")
            before = len(missing)
            process = context.Process(
                target=_play, args=(robot, policy, folder, name, setup, missing, repeats * len(faults))
            )
            process.start()
            try:
                process.join()
            finally:  # on interruption, its nodes end with it
                process.terminate()
                process.join(END_LIMIT)
    return [dict(row) for row in Journal(folder / name, resume=True).rows.values()]


def _play(robot: str, policy: str, folder: Path, name: str, setup: str, wanted: Sequence[str], total: int) -> None:
    """Run the `wanted` attempts in one graph until all are done or the graph has failed; runs in its own process."""
    contract, parameters = load_contract(robot), load_parameters()
    journal = Journal(folder / name, resume=True)
    all_faults = [*graph_faults(contract, parameters), *(edge.fault for edge in graph_edges(contract))]
    faults = {fault.name: fault for fault in all_faults}
    tries = [(faults[one], int(number)) for one, _, number in (key.rpartition(" #") for key in wanted)]
    arguments = {"robot": robot, "policy": policy, "device": "cpu", "seed": 1}
    with tqdm(total=total, initial=len(journal.rows), desc="faults in the graph", unit="fault") as bar:
        if sentence := impossible(setup):
            _give_up(tries, sentence, journal, bar, tried=False)
            return
        try:
            with started(setup, arguments, folder) as running:
                referee = Referee(contract, parameters.timing.period)
                scenario = Scenario(running, setup, contract, referee, parameters.timing.period)
                try:
                    _try_all(scenario, tries, journal, bar)
                finally:
                    scenario.close()
        except GraphError as error:  # nothing is known about the attempts left for this graph
            left = [(fault, i) for fault, i in tries if _key(fault, i) not in journal]
            _give_up(left, f"the graph did not come up: {error}".splitlines()[0], journal, bar)


def _try_all(scenario: Scenario, tries: Sequence[tuple[GraphFault, int]], journal: Journal, bar: tqdm[Any]) -> None:
    for number, (fault, i) in enumerate(tries):
        bar.set_postfix_str(fault.name[:40])
        row = try_fault(scenario, fault, FIRST_SEED + number, i)
        journal.add(_key(fault, i), asdict(row))
        bar.update()
        if not row.stopped:
            tqdm.write(f"{fault.name}: {row.sentence}")
        if scenario.graph.failure or (row.resume_ms is None and row.got != "not tried"):
            return  # the next attempt must not start in a broken graph


def _give_up(
    tries: Sequence[tuple[GraphFault, int]], sentence: str, journal: Journal, bar: tqdm[Any], tried: bool = True
) -> None:
    """Record for each of `tries` why it has no result."""
    tqdm.write(sentence)
    for fault, i in tries:
        row = GraphRow(fault.name, fault.row, i, tried=tried, got="not tried", sentence=sentence)
        journal.add(_key(fault, i), asdict(row))
        bar.update()


def _key(fault: GraphFault, attempt: int) -> str:
    return f"{fault.name} #{attempt}"


def summarize(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per fault: number of attempts and stops, median and 99th percentile."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    return [_summary([row for row in rows if row["name"] == name]) for name in names]


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    tried = [row for row in rows if row["tried"]]

    def percentile(field: str, share: float) -> float | None:
        values = [row[field] for row in tried if row[field] is not None]
        return round(float(np.percentile(values, share)), 4) if values else None

    figures: dict[str, Any] = {
        "name": rows[0]["name"],
        "row": rows[0]["row"],
        "tried": len(tried),
        "stopped": sum(row["stopped"] for row in tried),
        "got": sorted({row["got"] for row in tried}),
        "deadline_ms": rows[0]["deadline_ms"],
    }
    for field in ("reaction_ms", "heard_ms", "stop_ms", "resume_ms"):
        figures[f"{field}_p50"], figures[f"{field}_p99"] = percentile(field, 50.0), percentile(field, 99.0)
    for field in ("analytic_stop_ms", "travel_rad", "analytic_travel_rad"):
        figures[f"{field}_p50"] = percentile(field, 50.0)
    for field in ("commands", "lost", "violations", "starved"):
        figures[field] = sum(row[field] for row in tried)
    return figures
