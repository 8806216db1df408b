"""`vla-ros bench`: measures the safety layer, or the motion of a slow policy."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vla_ros.cli.arguments import natural, path, positive, positive_int
from vla_ros.cli.failures import require_output
from vla_ros.data.episodes.durable import write_whole
from vla_ros.data.episodes.lines import setting_differences
from vla_ros.errors import UsageError, VlaError

HELP = "measure the safety layer (fault table, fuzzer, edges, nominal runs, graph faults), or a slow policy's motion"

EXAMPLES = (
    "vla-ros bench safety --quick",
    "vla-ros bench safety --only graph --repeats 10 --faults camera clock",
    "vla-ros bench safety --resume --markdown docs/safety.md",
    "vla-ros bench loop --delays 100 300 500 --json",
)

PARTS = ("table", "clean", "comparison", "fuzz", "edges", "graph", "kills", "load")

WHERE = ("process", "graph")
"""Where the edge cases are run."""

DEFAULTS: Mapping[str, tuple[float, float]] = {
    "fuzz_ticks": (1_000_000, 20_000),
    "scenes": (20, 2),
    "repeats": (3, 1),
    "kills": (100, 5),
    "load_minutes": (10, 0.5),
}
"""Amount of each measurement: (default, with --quick)."""

WAYS = ("synchronous", "newest", "asynchronous", "ensembling", "real_time_chunking")
"""Execution modes of `vla_ros.evaluation.loop_bench`, repeated so that `--help` need not import it."""

LOOP_SCENES = (10, 2)
"""Number of scenes per delay and execution mode: (default, with --quick)."""

FUZZ_BLOCK = 10_000
"""Number of ticks that a process fuzzes before it reports."""

FIRST_SEED = 3000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "what",
        choices=["safety", "loop"],
        help="safety: the safety layer; loop: pauses and velocity "
        "steps of a policy that is slowed down, and its success",
    )
    parser.add_argument("--robot", default="panda", help="robot contract (name or YAML file)")
    parser.add_argument("--policy", default="checkpoints/pick", help="checkpoint that drives the graph")
    parser.add_argument("--quick", action="store_true", help="little of everything: minutes")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--fuzz-ticks", type=positive_int, help="how many ticks are fuzzed (default 1,000,000)")
    parser.add_argument("--scenes", type=positive_int, help="how many scenes are played (default 20; loop: 10)")
    parser.add_argument(
        "--repeats", type=positive_int, help="how often each fault comes about in the graph (default 3)"
    )
    parser.add_argument("--faults", nargs="+", default=(), metavar="WORD", help="only faults whose names hold a WORD")
    parser.add_argument("--lines", nargs="+", type=int, default=(), metavar="N", help="edges: only these lines")
    parser.add_argument(
        "--where", nargs="+", choices=WHERE, default=WHERE, metavar="PLACE", help=f"edges: of {', '.join(WHERE)}"
    )
    parser.add_argument("--kills", type=positive_int, help="how many random kill -9 and SIGSTOP (default 100)")
    parser.add_argument(
        "--load-minutes", type=positive, help="minutes of motion with every processor loaded (default 10)"
    )
    parser.add_argument("--seed", type=natural, default=0, help="of fuzzer and kills")
    parser.add_argument("--processes", type=positive_int, default=os.cpu_count() or 1, help="how many fuzz at once")
    parser.add_argument("--resume", action="store_true", help="go on where the run before in this folder was cut off")
    parser.add_argument("--out", type=path, default=Path("runs/bench"), help="folder of the report and its picture")
    parser.add_argument("--markdown", type=path, help="also write the figures into a Markdown file, between its marks")
    parser.add_argument(
        "--delays",
        nargs="+",
        type=positive,
        default=(100.0, 300.0, 500.0),
        metavar="MS",
        help="loop: ms that the policy is slowed by (default 100 300 500)",
    )
    parser.add_argument("--jitter", type=natural, default=50, help="loop: ms that each delay varies by, to either side")
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=WAYS,
        default=WAYS,
        metavar="WAY",
        help=f"loop: how chunks follow each other, of {', '.join(WAYS)} (default: all; docs/policies.md)",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Measure and report; return 0 when every fault was stopped.

    Raises:
        VlaError: when the report to resume cannot be read, or is of another robot, policy, seed or amount.
    """
    if args.what == "loop":
        from vla_ros.cli.bench_reports.loop import run_loop

        if args.resume or args.markdown:
            raise UsageError("--resume and --markdown have no effect on loop: leave them out")
        args.scenes = args.scenes or (LOOP_SCENES[1] if args.quick else LOOP_SCENES[0])
        return run_loop(args)
    from vla_ros.cli.bench_reports.report import missed_in, summary_of, violations_in

    for name, (full, quick) in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, type(full)(quick if args.quick else full))
    begin = time.monotonic()
    require_output(args.out).mkdir(parents=True, exist_ok=True)
    report = _before(args) if args.resume else {}
    asked = {"robot": args.robot, "policy": args.policy, "seed": args.seed, "quick": args.quick}
    if differences := setting_differences({name: report[name] for name in asked if name in report}, asked):
        raise VlaError(
            f"{_path(args)} was measured otherwise: {'; '.join(differences)}; measure anew, without --resume, or give "
            "another --out"
        )
    report |= asked
    _write(args, report)  # journals without a report could not be attributed to a robot, policy and seed
    for part in PARTS:
        if part in args.only and not (args.resume and part in report and part not in JOURNALS):
            report[part] = MEASURE[part](args)
            _write(args, report)  # after each part: an interrupted run keeps its results
    report["missed"] = missed_in(report)
    report["violations"] = sum(violations_in(report).values())
    report["wall_seconds"] = round(time.monotonic() - begin, 1)
    _write(args, report)
    written = _illustrate(args, report)
    print(summary_of(report))
    print(f"report in {', '.join(map(str, written))}")
    if args.json:
        print(json.dumps(report))
    return 1 if report["missed"] else 0


def _path(args: argparse.Namespace) -> Path:
    return Path(args.out) / "safety.json"


def _before(args: argparse.Namespace) -> dict[str, Any]:
    path = _path(args)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    except (ValueError, TypeError) as error:
        raise VlaError(f"{path} is no report: {error}; measure anew, without --resume") from error


def _write(args: argparse.Namespace, report: Mapping[str, Any]) -> None:
    write_whole(_path(args), json.dumps(report, indent=1).encode())


def _illustrate(args: argparse.Namespace, report: Mapping[str, Any]) -> list[Path]:
    """Draw the figure if its parts are there, and write the tables; return the files written."""
    from vla_ros.cli.bench_reports.markdown import write_tables
    from vla_ros.safety_bench.plot import safety_plot

    written = [_path(args)]
    if {"table", "clean", "comparison", "fuzz"} <= set(report):
        written.append(Path(args.out) / "safety.png")
        safety_plot(report, written[-1])
    if args.markdown is not None:
        written.append(args.markdown)
        write_tables(report, args.markdown)
    return written


def _parts(args: argparse.Namespace) -> tuple[Any, Any, range]:
    from vla_ros.robot.contract import load_contract
    from vla_ros.safety.parameters import load_parameters

    return load_contract(args.robot), load_parameters(), range(FIRST_SEED, FIRST_SEED + args.scenes)


def _table(args: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    from tqdm import tqdm

    from vla_ros.safety.selftest.table import fault_table, run_faults

    contract, parameters, _ = _parts(args)
    with tqdm(total=len(fault_table(contract)), desc="fault table", unit="fault") as bar:
        rows = run_faults(contract, parameters, tell=lambda row: bar.update())
    stopped = sum(row.stopped for row in rows)
    figures = {"tried": len(rows), "stopped": stopped, "missed": len(rows) - stopped}
    return {**figures, "rows": [asdict(row) for row in rows]}


def _clean(args: argparse.Namespace) -> dict[str, Any]:
    from tqdm import tqdm

    from vla_ros.safety_bench.comparison import clean_runs

    contract, parameters, seeds = _parts(args)
    with tqdm(total=len(seeds), desc="nominal runs", unit="scene") as bar:
        return dict(clean_runs(contract, parameters, seeds, bar.update))


def _comparison(args: argparse.Namespace) -> dict[str, Any]:
    from tqdm import tqdm

    from vla_ros.safety_bench.comparison import compare

    contract, parameters, seeds = _parts(args)
    with tqdm(total=3 * len(seeds), desc="comparison", unit="run") as bar:
        return dict(compare(contract, parameters, seeds, bar.update))


def _fuzz(args: argparse.Namespace) -> dict[str, Any]:
    """Fuzz in several processes, each block with its own random stream; finished blocks are journaled as they come."""
    import multiprocessing

    from tqdm import tqdm

    from vla_ros.envs.processes import end_when_interrupted, interrupts_held
    from vla_ros.evaluation.journal import Journal
    from vla_ros.safety_bench.fuzz import FuzzReport

    ticks = args.fuzz_ticks
    journal = Journal(args.out / "fuzz.jsonl", args.resume)
    blocks = [
        (args.robot, min(FUZZ_BLOCK, ticks - first), args.seed * 1_000_003 + first)
        for first in range(0, ticks, FUZZ_BLOCK)
    ]
    missing = [block for block in blocks if str(block) not in journal]
    with interrupts_held():
        workers = multiprocessing.get_context("spawn").Pool(
            max(min(args.processes, len(missing)), 1), end_when_interrupted
        )
    with (
        tqdm(total=ticks, initial=ticks - sum(block[1] for block in missing), desc="fuzzer", unit="tick") as bar,
        workers as pool,
    ):
        for block, one in pool.imap_unordered(_fuzz_block, missing):
            journal.add(str(block), one)
            bar.update(block[1])
    report = FuzzReport()
    for block in blocks:
        report.add(FuzzReport.from_values(journal.rows[str(block)]))
    return dict(report.figures())


def _fuzz_block(block: tuple[str, int, int]) -> tuple[tuple[str, int, int], dict[str, Any]]:
    from vla_ros.robot.contract import load_contract
    from vla_ros.safety.parameters import load_parameters
    from vla_ros.safety_bench.fuzz import fuzz

    robot, ticks, seed = block
    return block, fuzz(load_contract(robot), load_parameters(), ticks, seed).values()


def _graph(args: argparse.Namespace) -> dict[str, Any]:
    from vla_ros.safety_bench.graph.suite import run_graph_faults, summarize

    rows = run_graph_faults(args.robot, args.policy, args.repeats, args.out, resume=args.resume, only=args.faults)
    return {"faults": summarize(rows), "rows": rows}


def _edges(args: argparse.Namespace) -> dict[str, Any]:
    """Run the edge cases in this process, then in the graph."""
    from dataclasses import asdict

    from tqdm import tqdm

    from vla_ros.safety_bench.edges import run_edges

    contract, parameters, _ = _parts(args)
    rows = []
    if "process" in args.where:
        with tqdm(desc="edges in this process", unit="case") as bar:
            rows += run_edges(contract, parameters, args.lines, lambda row: bar.update())
    if "graph" in args.where:
        from vla_ros.safety_bench.graph.suite import run_graph_edges

        rows += run_graph_edges(args.robot, args.policy, args.repeats, args.out, resume=args.resume, lines=args.lines)
    rows.sort(key=lambda row: row.line)
    totals = {name: sum(getattr(row, name) for row in rows) for name in ("tried", "passed", "violations")}
    return {**totals, "rows": [asdict(row) for row in rows]}


def _kills(args: argparse.Namespace) -> dict[str, Any]:
    from vla_ros.safety_bench.graph.kills import run_kills, summarize_kills

    rows = run_kills(args.robot, args.policy, args.kills, args.out, seed=args.seed, resume=args.resume)
    return {**summarize_kills(rows), "rows": rows}


def _load(args: argparse.Namespace) -> dict[str, Any]:
    from vla_ros.safety_bench.graph.load import run_load, summarize_load

    rows = run_load(args.robot, args.policy, args.load_minutes, args.out, resume=args.resume)
    return {**summarize_load(rows), "rows": rows}


MEASURE: Mapping[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "table": _table,
    "clean": _clean,
    "comparison": _comparison,
    "fuzz": _fuzz,
    "edges": _edges,
    "graph": _graph,
    "kills": _kills,
    "load": _load,
}

JOURNALS = frozenset({"fuzz", "edges", "graph", "kills", "load"})
"""Parts that journal their progress, and resume from it by themselves."""
