"""`vla-ros collect`: demonstrations of the scripted expert in the simulated cell."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

HELP = "collect demonstrations in the simulator"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--robot", default="panda", help="robot contract (name or YAML file)")
    parser.add_argument("--episodes", type=int, default=1500, help="how many episodes (one a seed)")
    parser.add_argument("--seed", type=int, default=1_000_000, help="first seed")
    parser.add_argument("--out", type=Path, default=Path("runs/data/pick"), help="folder of the episodes")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many work at once")
    parser.add_argument("--keep-failures", action="store_true", help="store episodes in which the expert failed, too")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Collect and report; 0 when at least one episode was stored."""
    from tqdm import tqdm

    from vla_ros.sim.collection import CollectionOptions
    from vla_ros.sim.parallel_collection import collect_in_parallel

    begin = time.monotonic()
    seeds = range(args.seed, args.seed + args.episodes)
    stored = failures = steps = 0
    reports = collect_in_parallel(
        args.robot, seeds, CollectionOptions(), args.out, args.processes, keep_failures=args.keep_failures
    )
    for report in tqdm(reports, total=args.episodes, unit="episode", desc="collect"):
        stored += report.stored
        failures += not report.success
        steps += report.steps if report.stored else 0
    figures = {
        "episodes": args.episodes, "stored": stored, "expert_failures": failures, "steps": steps,
        "seconds": round(time.monotonic() - begin, 1), "folder": str(args.out),
    }  # fmt: skip
    print(f"stored {stored} episodes ({steps} steps) in {args.out}; the expert failed in {failures}")
    if args.json:
        print(json.dumps(figures))
    return 0 if stored else 1
