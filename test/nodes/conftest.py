"""What tests with real nodes share: a safety layer whose arming self-test has passed, as on a robot that is in use."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.selftest.record import SelftestRecord, default_folder, fingerprint, keep, recall
from vla_ros.safety.selftest.table import fault_table, run_faults

FRESH = 3600.0
"""A pass of the same code that is not older than this need not be made again, s."""


@pytest.fixture(scope="session", autouse=True)
def tested_layer() -> None:
    """Run the fault table once for all safety nodes, where the nodes would keep a pass themselves."""
    _keep_tested("panda")


@pytest.fixture(scope="session")
def keep_tested() -> Callable[[str], None]:
    """keep_tested(robot): the same for another robot."""
    return _keep_tested


def _keep_tested(robot: str) -> None:
    """Run the fault table for a robot, unless it has been run lately."""
    contract, parameters = load_contract(robot), load_parameters()
    mark = fingerprint(contract, parameters)
    if recall(default_folder(), mark, FRESH) is None:
        rows = run_faults(contract, parameters, fault_table())  # as the node does: it asks for every fault there is
        missed = tuple(f"{row.name}: {row.sentence}" for row in rows if not row.stopped)
        keep(
            default_folder(),
            SelftestRecord(mark, len(rows), missed, time.time(), tuple(row.name for row in rows if row.stopped)),
        )
