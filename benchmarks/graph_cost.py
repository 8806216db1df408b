"""Measures the cost of the graph: CPU time and memory of each process of the demo, at rest and in motion.

    .venv/bin/python benchmarks/graph_cost.py --seconds 20 --json
    .venv/bin/python benchmarks/graph_cost.py --processes shared
    .venv/bin/python benchmarks/graph_cost.py --against ../another_tree

At rest the graph is up and disarmed: cameras, joint states and heartbeats run at their rates. In motion it carries out
one task after the other. Nodes that share a process have one row, their names joined by "+". 100 % is one CPU core.
`memory_mb` is the resident memory of a process including shared pages (RSS); `memory_pss_mb` divides shared pages among
the processes that use them (PSS).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

TICKS = os.sysconf("SC_CLK_TCK")
TIMEOUT = 60.0
MAX_TASK_TIME = 5.0
FIRST_SEED = 1000
MEGABYTE = 1e6


def processor_time(pid: int) -> float:
    """Return the CPU time used by a process and its threads, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> dict[str, float]:
    """Return RSS and PSS of a process, MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return {"memory_mb": 1024 * kilobytes["Rss"] / MEGABYTE, "memory_pss_mb": 1024 * kilobytes["Pss"] / MEGABYTE}


class Meter:
    """Accumulates the CPU time of processes over several intervals."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        """Measure `processes`: name to process id."""
        self._processes = dict(processes)
        self.seconds, self.used = 0.0, dict.fromkeys(self._processes, 0.0)

    def during(self, wait: Callable[[], object]) -> None:
        """Measure while `wait` runs."""
        before, began = {name: processor_time(pid) for name, pid in self._processes.items()}, time.monotonic()
        wait()
        self.seconds += time.monotonic() - began
        for name, pid in self._processes.items():
            self.used[name] += processor_time(pid) - before[name]

    def percent(self) -> dict[str, float]:
        """Return the fraction of one core that each process used, %."""
        return {name: round(100.0 * used / self.seconds, 1) for name, used in self.used.items()}


def processes_of(graph: Any) -> dict[str, int]:
    """Return process ids by the name of their node, or the names of several joined by "+"."""
    nodes: dict[int, list[str]] = {}
    for one in graph.descriptions:
        nodes.setdefault(graph.process(one.name).pid, []).append(one.name)
    return {"+".join(names): pid for pid, names in nodes.items()}


def measure(seconds: float, tasks: int, policy: str, processes: str) -> dict[str, Any]:
    """Return the metrics of one graph, for `seconds` at rest and during `tasks` tasks.

    Args:
        seconds: Time at rest, s.
        tasks: Number of tasks to carry out.
        policy: Checkpoint.
        processes: Argument of the graph; "" if it has none.
    """
    from vla_ros.bringup.runner import GraphRunner
    from vla_ros.client.observer import Observer
    from vla_ros.client.operator_client import Operator
    from vla_ros.client.stage import Stage
    from vla_ros.robot.contract import load_contract

    contract = load_contract("panda")
    layout = {"processes": processes} if processes else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        GraphRunner({"policy": policy} | layout, folder=folder) as graph,
        tqdm(total=1 + tasks, desc="cost of the graph", unit="part") as bar,
    ):
        measured = processes_of(graph)
        observer = Observer(graph.node, contract.cameras[0].topic)
        operator = Operator(graph.node, observer)
        stage = Stage(graph.node, observer, operator)
        rest, motion = Meter(measured), Meter(measured)
        observer.wait(lambda: observer.safety.sentence != "", TIMEOUT)
        rest.during(lambda: time.sleep(seconds))
        bar.update()
        for number in range(tasks):
            sentence = stage.set_up(FIRST_SEED + number, "", TIMEOUT)
            observer.begin()
            operator.say(sentence, TIMEOUT)
            operator.arm(TIMEOUT)
            observer.wait(lambda: observer.safety.state_name == "RUN", TIMEOUT)
            motion.during(lambda: observer.wait(lambda: observer.episode.success, MAX_TASK_TIME))
            bar.update()
        kept = {name: memory(pid) for name, pid in measured.items()}
    at_rest, in_motion = rest.percent(), motion.percent()
    return {
        "cpu_percent_at_rest": round(sum(at_rest.values()), 1),
        "cpu_percent_in_motion": round(sum(in_motion.values()), 1),
        "memory_mb": round(sum(one["memory_mb"] for one in kept.values())),
        "memory_pss_mb": round(sum(one["memory_pss_mb"] for one in kept.values())),
        "seconds_at_rest": round(rest.seconds, 1),
        "seconds_in_motion": round(motion.seconds, 1),
        "nodes": {
            name: {
                "cpu_percent_at_rest": at_rest[name],
                "cpu_percent_in_motion": in_motion[name],
                **{what: round(value) for what, value in kept[name].items()},
            }
            for name in measured
        },
    }


def measure_tree(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the metrics of the package in another source folder, measured in a separate process."""
    words = ["--seconds", str(arguments.seconds), "--tasks", str(arguments.tasks), "--policy", arguments.policy]
    if arguments.processes:
        words += ["--processes", arguments.processes]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), *words, "--json"],
        cwd=folder,  # searched first for its configuration
        env={**os.environ, "PYTHONPATH": str(folder.resolve())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(figures: Mapping[str, Any]) -> None:
    """Print a table."""
    width = max(20, *(len(name) + 2 for name in figures["nodes"]))
    print(f"{'node':<{width}}{'at rest, %':>12}{'in motion, %':>14}{'memory, MB':>12}{'its share, MB':>15}")
    for name, node in {**figures["nodes"], "in all": figures}.items():
        keys = ("cpu_percent_at_rest", "cpu_percent_in_motion", "memory_mb", "memory_pss_mb")
        print("{:<{width}}{:>12}{:>14}{:>12}{:>15}".format(name, *(node[key] for key in keys), width=width))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the graph is watched at rest")
    parser.add_argument("--tasks", type=int, default=5, help="how many tasks it carries out")
    parser.add_argument("--policy", default="checkpoints/pick", help="checkpoint that drives it")
    parser.add_argument(
        "--processes", choices=["separate", "shared"], help="whether nodes share a process (default: the graph's own)"
    )
    parser.add_argument("--against", type=Path, help="source folder of another version: it is measured first")
    parser.add_argument("--json", action="store_true", help="no table, only the figures on the last line")
    arguments = parser.parse_args()
    if arguments.against is None:
        figures = measure(arguments.seconds, arguments.tasks, arguments.policy, arguments.processes or "")
    else:
        trees = {"before": arguments.against, "after": Path(__file__).parents[1]}
        figures = {name: measure_tree(folder, arguments) for name, folder in trees.items()}
    if not arguments.json:
        for name, one in figures.items() if arguments.against is not None else [("", figures)]:
            print(name, end="\n" if name else "")
            show(one)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
