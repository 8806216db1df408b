"""`vla-ros selftest`: inject the fault table into the safety layer in a dry run; nothing moves."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

HELP = "try the fault table on the safety layer, in a dry run"

EXAMPLES = (
    "vla-ros selftest",
    "vla-ros selftest --robot ~/myarm.yaml --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--robot", default="panda", help="robot contract (name or YAML file)")
    parser.add_argument("--safety", default="config/safety.yaml", help="parameters of the safety layer")
    parser.add_argument("--json", action="store_true", help="print the rows as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Print a line per fault and store a pass for this user's safety nodes; return 0 if all were stopped."""
    from vla_ros.robot.contract import load_contract
    from vla_ros.safety.motion.collision import CollisionModel
    from vla_ros.safety.parameters import load_parameters
    from vla_ros.safety.selftest.query_time import require_timely_distances
    from vla_ros.safety.selftest.record import default_folder, fingerprint, keep, record_of
    from vla_ros.safety.selftest.table import fault_table, run_faults
    from vla_ros.safety.selftest.trial import FaultRow

    def tell(row: FaultRow) -> None:
        if row.name not in own:
            return
        print(f"{'stopped' if row.stopped else 'MISSED ':<8} {row.name:<62} {row.got}", flush=True)
        if not row.stopped:
            print(f"{'':<8} expected {row.expected}; {row.sentence}", flush=True)

    contract, parameters = load_contract(args.robot), load_parameters(args.safety)
    if slow := require_timely_distances(contract, parameters):
        print(f"{'note':<8} collision: {slow}", flush=True)
    concessions = CollisionModel(contract, parameters.collision, parameters.obstacles).concessions
    for sentence in concessions:
        print(f"{'note':<8} collision: {sentence}", flush=True)
    own = {fault.name for fault in fault_table(contract)}
    mark = fingerprint(contract, parameters)
    tried = run_faults(contract, parameters, fault_table(), tell=tell)  # every row, as the node requires
    rows = [row for row in tried if row.name in own]
    stopped = sum(row.stopped for row in rows)
    print(
        f"{stopped} of {len(rows)} faults stopped" + ("" if stopped == len(rows) else f", {len(rows) - stopped} MISSED")
    )
    if keep(default_folder(), record_of(mark, tried)):
        print("kept: a safety node with this contract and these parameters need not try them again before it arms")
    if args.json:
        figures = {"tried": len(rows), "stopped": stopped, "missed": len(rows) - stopped}
        print(json.dumps({**figures, "concessions": concessions, "rows": [asdict(row) for row in rows]}))
    return 0 if stopped == len(rows) else 1
