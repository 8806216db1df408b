"""`vla-ros bench loop`: measures how smoothly consecutive chunks of a slow policy join."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from vla_ros.cli.failures import require_output
from vla_ros.data.episodes.durable import write_whole


def run_loop(args: argparse.Namespace) -> int:
    """Measure, write the report and its figure; return 0 when everything was measured.

    Raises:
        VlaError: when the policy cannot be loaded, or does not fit the robot.
    """
    from tqdm import tqdm

    from vla_ros.evaluation.loop_bench import LoopOptions, loop_report, measure_loop
    from vla_ros.evaluation.loop_plot import loop_plot

    options = LoopOptions(
        robot=args.robot,
        policy=args.policy,
        ways=tuple(args.ways),
        slower=tuple(1e-3 * delay for delay in args.delays),
        jitter=1e-3 * args.jitter,
        scenes=args.scenes,
        seed=1000 + args.seed,
    )
    require_output(args.out).mkdir(parents=True, exist_ok=True)
    rows = []
    for row in tqdm(measure_loop(options), total=len(options.ways) * len(options.slower), desc="loop", unit="way"):
        rows.append(row)
        write_whole(args.out / "loop.json", json.dumps(loop_report(options, rows), indent=1).encode())
    report = loop_report(options, rows)
    loop_plot(report, args.out / "loop.png")
    print("way                   slower          delay   success   seams over  step 95 %  pauses held")
    for row in rows:
        print(
            f"{row.way:<20} {row.slower_ms:>4.0f} ms {row.delay_ms:>5.0f} ±{row.jitter_ms / 2:>3.0f} ms "
            f"{row.successes:>4} of {row.episodes:<3} {row.seams_over:>4} of {row.seams:<4} {row.step_p95:>9.2f} "
            f"{row.pauses_over:>7} {row.held_fraction:.1%}"
        )
    for way in report["left_out"]:
        print(f"{way}: left out, the policy accepts no prefix")
    print(f"report in {args.out / 'loop.json'}, loop.png")
    if args.json:
        print(json.dumps({**report, "rows": [asdict(row) for row in rows]}))
    return 0
