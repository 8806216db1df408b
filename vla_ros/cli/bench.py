"""`vla-ros bench safety`: everything that the safety layer is trusted for, tried and measured by one command."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HELP = "measure the safety layer: fuzzer, fault table, comparison, clean runs, faults in the real graph"

FUZZ_TICKS, QUICK_FUZZ_TICKS = 1_000_000, 20_000
SCENES, QUICK_SCENES = 20, 2
FUZZ_BLOCK = 10_000
"""Ticks that one process fuzzes before it reports."""

FIRST_SEED = 3000
FALSE_STOPS, MODIFIED, SUCCESS_COST = 0.005, 0.01, 0.01
"""Most that clean runs may lose: share of ticks in a stop, share of ticks changed, success."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("what", choices=["safety"], help="what is measured")
    parser.add_argument("--robot", default="panda", help="robot contract (name or YAML file)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FUZZ_TICKS:,} fuzzed ticks and few scenes")
    parser.add_argument("--fuzz-ticks", type=int, help=f"how many ticks are fuzzed (default {FUZZ_TICKS:,})")
    parser.add_argument("--scenes", type=int, help=f"how many scenes are played (default {SCENES})")
    parser.add_argument("--seed", type=int, default=0, help="of the fuzzer")
    parser.add_argument("--graph", action="store_true", help="also bring faults about in the real ROS 2 graph")
    parser.add_argument("--only-graph", action="store_true", help="the faults in the real graph, and nothing else")
    parser.add_argument("--repeats", type=int, default=1, help="how often each fault comes about in the graph")
    parser.add_argument("--policy", default="checkpoints/pick", help="checkpoint that drives the graph")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many fuzz at once")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of the report and its picture")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Measure and report; 0 when everything was stopped."""
    begin = time.monotonic()
    report: dict[str, Any] = {"robot": args.robot, "seed": args.seed, "quick": args.quick}
    if not args.only_graph:
        report |= _core(args)
    if args.graph or args.only_graph:
        from vla_ros.nodes.graph_faults import run_graph_faults

        report["graph"] = run_graph_faults(args.robot, args.policy, args.repeats, args.out)
    report["missed"] = _missed(report)
    report["violations"] = sum(_violations(report).values())
    report["wall_seconds"] = round(time.monotonic() - begin, 1)
    args.out.mkdir(parents=True, exist_ok=True)
    name = "safety_graph" if args.only_graph else "safety"
    (args.out / f"{name}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    if not args.only_graph:
        from vla_ros.evaluation.safety_picture import safety_picture

        safety_picture(report, args.out / "safety.png")
    print(_summary(report))
    print(f"report in {args.out / name}.json" + ("" if args.only_graph else ", picture beside it"))
    if args.json:
        print(json.dumps(report))
    return 1 if report["missed"] else 0


def _core(args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of all that needs no graph."""
    from dataclasses import asdict

    from tqdm import tqdm

    from vla_ros.evaluation.comparison import clean_runs, compare
    from vla_ros.robot.contract import load_contract
    from vla_ros.safety.faults import fault_table, run_faults
    from vla_ros.safety.parameters import load_parameters

    contract, parameters = load_contract(args.robot), load_parameters()
    ticks = args.fuzz_ticks or (QUICK_FUZZ_TICKS if args.quick else FUZZ_TICKS)
    scenes = args.scenes or (QUICK_SCENES if args.quick else SCENES)
    seeds = range(FIRST_SEED, FIRST_SEED + scenes)
    with tqdm(total=len(fault_table()), desc="fault table", unit="fault") as bar:
        rows = run_faults(contract, parameters, tell=lambda row: bar.update())
    stopped = sum(row.stopped for row in rows)
    selftest = {"tried": len(rows), "stopped": stopped, "missed": len(rows) - stopped}
    with tqdm(total=scenes, desc="clean runs", unit="scene") as bar:
        clean = clean_runs(contract, parameters, seeds, bar.update)
    with tqdm(total=3 * scenes, desc="comparison", unit="run") as bar:
        comparison = compare(contract, parameters, seeds, bar.update)
    return {
        "selftest": {**selftest, "rows": [asdict(row) for row in rows]}, "clean": clean, "comparison": comparison,
        "fuzz": _fuzz(args.robot, ticks, args.seed, args.processes),
    }  # fmt: skip


def _fuzz(robot: str, ticks: int, seed: int, processes: int) -> dict[str, Any]:
    """Fuzz in several processes, each block with a random stream of its own."""
    import multiprocessing

    from tqdm import tqdm

    from vla_ros.evaluation.fuzz import FuzzReport

    blocks = [
        (robot, min(FUZZ_BLOCK, ticks - first), seed * 1_000_003 + first) for first in range(0, ticks, FUZZ_BLOCK)
    ]
    report = FuzzReport()
    with (
        tqdm(total=ticks, desc="fuzzer", unit="tick") as bar,
        multiprocessing.get_context("spawn").Pool(min(processes, len(blocks))) as pool,
    ):
        for one in pool.imap_unordered(_fuzz_block, blocks):
            report.add(one)
            bar.update(one.ticks)
    return dict(report.figures())


def _fuzz_block(block: tuple[str, int, int]) -> Any:  # noqa: ANN401 (a FuzzReport, imported only where it is made)
    from vla_ros.evaluation.fuzz import fuzz
    from vla_ros.robot.contract import load_contract
    from vla_ros.safety.parameters import load_parameters

    robot, ticks, seed = block
    return fuzz(load_contract(robot), load_parameters(), ticks, seed)


def _violations(report: dict[str, Any]) -> dict[str, int]:
    """Return what the referee found in the commands of the safety layer, by part of the report."""
    found = {}
    if "fuzz" in report:
        found["fuzz"] = int(report["fuzz"]["violations"])
        found["clean runs"] = int(report["clean"]["violations"])
        found["spoilt runs"] = int(report["comparison"]["filter"]["violations"])
        found["replay"] = int(report["comparison"]["filter"]["replay"]["violations"])
    for row in report.get("graph", []):
        found["graph"] = found.get("graph", 0) + int(row["violations"])
    return found


def _missed(report: dict[str, Any]) -> list[str]:
    """Return a sentence for everything that was not as it must be."""
    missed = [f"{count} violations in {part}" for part, count in _violations(report).items() if count]
    if "fuzz" in report:
        clean = report["clean"]
        missed += [f"fault table: {row['name']}" for row in report["selftest"]["rows"] if not row["stopped"]]
        missed += [f"the fuzzer made {report['fuzz']['raised']} ticks raise"] if report["fuzz"]["raised"] else []
        limits: Sequence[tuple[str, float, float]] = (
            ("share of ticks in a stop in clean runs", clean["false_stop_share"], FALSE_STOPS),
            ("share of clean ticks modified", clean["modified_share"], MODIFIED),
            ("success that the layer costs", clean["success_without"] - clean["success_rate"], SUCCESS_COST),
        )
        missed += [f"{name}: {value:.4f}, at most {most}" for name, value, most in limits if value > most]
    missed += [f"graph: {row['name']}: {row['sentence']}" for row in report.get("graph", []) if not row["stopped"]]
    return missed


def _summary(report: dict[str, Any]) -> str:
    lines = []
    if "fuzz" in report:
        fuzz, clean, table = report["fuzz"], report["clean"], report["selftest"]
        lines += [
            f"fault table   {table['stopped']} of {table['tried']} stopped",
            f"fuzzer        {fuzz['ticks']:,} ticks, {fuzz['violations']} violations, {fuzz['raised']} raised, "
            f"tick p50 {fuzz['tick_ms_p50']} ms, p99 {fuzz['tick_ms_p99']} ms",
            f"clean runs    {clean['scenes']} scenes: stopped {clean['false_stop_share']:.2%} of ticks, modified "
            f"{clean['modified_share']:.2%}, success {clean['success_rate']:.0%} "
            f"(without {clean['success_without']:.0%})",
        ]
        for name, one in report["comparison"].items():
            lines.append(
                f"{name:<13} violations {one['violations']} in {one['commands']}, false stops {one['false_stops']}, "
                f"success {one['success_rate']:.0%}; same recording: violations {one['replay']['violations']}"
            )
    for row in report.get("graph", []):
        lines.append(f"{'stopped' if row['stopped'] else 'MISSED ':<8} {row['name']:<44} {row['sentence']}")
    lines += [f"MISSED: {sentence}" for sentence in report["missed"]] or ["nothing missed"]
    return "\n".join(lines)
