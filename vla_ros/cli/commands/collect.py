"""`vla-ros collect`: collect demonstrations of the scripted expert in simulation."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from vla_ros.cli.arguments import natural, path, positive_int
from vla_ros.cli.failures import require_output
from vla_ros.errors import UsageError

HELP = "collect demonstrations in the simulator"

EXAMPLES = (
    "vla-ros collect --episodes 200 --out runs/data/pick",
    "vla-ros collect --world tabletop --episodes 1000",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--robot", default="panda", help="robot contract (name or YAML file)")
    parser.add_argument("--world", default="pick", help="pick (one task) or tabletop (pick, place, push, stack)")
    parser.add_argument("--episodes", type=positive_int, default=1500, help="how many episodes (one a seed)")
    parser.add_argument("--seed", type=natural, default=1_000_000, help="first seed")
    parser.add_argument(
        "--varied-from",
        type=natural,
        help="tabletop scenes of this seed and later ones vary in light, cameras, table, start pose and clutter",
    )
    parser.add_argument("--out", type=path, help="folder of the episodes (runs/data/<world>)")
    parser.add_argument("--processes", type=positive_int, default=os.cpu_count() or 1, help="how many work at once")
    parser.add_argument(
        "--keep-failures",
        action="store_true",
        help="store episodes in which the expert failed, too; those that an earlier run left out are collected again",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Collect the episodes missing from the folder; return 0 if at least one was stored."""
    from tqdm import tqdm

    from vla_ros.envs.collection import CollectionJob, collect_in_parallel
    from vla_ros.envs.registry import find_world
    from vla_ros.evaluation.statistics import wilson_interval
    from vla_ros.robot.contract import load_contract

    begin = time.monotonic()
    if args.varied_from is not None and not find_world(args.world).config.furnished:
        raise UsageError(f"--varied-from has no effect with --world {args.world}: leave it out, or use tabletop")
    load_contract(args.robot)  # fail before processes start
    folder = require_output(args.out or Path("runs/data") / args.world)
    options = replace(find_world(args.world).options, varied_from=args.varied_from)
    job = CollectionJob(args.robot, args.world, options, folder, args.keep_failures)
    seeds = range(args.seed, args.seed + args.episodes)
    stored = failures = steps = 0
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for report in tqdm(
        collect_in_parallel(job, seeds, args.processes), total=args.episodes, unit="episode", desc="collect"
    ):
        stored += report.stored
        failures += not report.success
        steps += report.steps if report.stored else 0
        outcomes[report.task].append(report.success)
    figures = {
        "world": args.world,
        "episodes": args.episodes,
        "stored": stored,
        "expert_failures": failures,
        "steps": steps,
        "by": {
            task: {
                "episodes": len(won),
                "success_rate": sum(won) / len(won),
                "success_ci95": list(wilson_interval(sum(won), len(won))),
            }
            for task, won in sorted(outcomes.items())
        },
        "seconds": round(time.monotonic() - begin, 1),
        "folder": str(folder),
    }
    print(f"stored {stored} episodes ({steps} steps) in {folder}; the expert failed in {failures}")
    for task, won in sorted(outcomes.items()):
        print(f"  {task:<8} expert {sum(won)} of {len(won)}")
    if args.json:
        print(json.dumps(figures))
    return 0 if stored else 1
