"""Run the fault table in a separate process, so that real-time threads never wait for it.

    python -m vla_ros.safety.selftest.process --robot panda --safety config/safety.yaml

Prints one JSON object per line: {"total": ...} first, {"row": ...} for every fault, {"record": ...} last. Exits with 0
after a complete run, whether or not every fault was stopped.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from vla_ros.priority import prefer_thread
from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.selftest.record import fingerprint, record_of
from vla_ros.safety.selftest.table import fault_table, run_faults
from vla_ros.safety.selftest.trial import FaultRow

NICENESS = 10


def main() -> int:
    """Run the fault table and print its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", required=True, help="robot contract: a name or a file")
    parser.add_argument("--safety", required=True, help="safety parameters: a file")
    arguments = parser.parse_args()
    # The parent may have a higher priority. The session's priority (autogroup) stays: on a machine that is always
    # loaded the self-test would starve, and the robot could not be armed.
    prefer_thread(NICENESS)
    contract, parameters = load_contract(arguments.robot), load_parameters(arguments.safety)
    mark, faults = fingerprint(contract, parameters), fault_table()
    _say(total=len(faults))

    def tell(row: FaultRow) -> None:
        _say(row=asdict(row))

    rows = run_faults(contract, parameters, faults, tell=tell)
    _say(record=asdict(record_of(mark, rows)))
    return 0


def _say(**values: Any) -> None:  # noqa: ANN401 (what JSON holds)
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
