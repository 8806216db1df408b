"""All faults in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.faults import (
    chunks,
    clocks,
    configuration,
    contact,
    demands,
    following,
    instructions,
    operator,
    places,
    policies,
    postures,
    solver,
    stamps,
    states,
)  # fmt: skip
from vla_ros.safety.faults.judge import play_faults
from vla_ros.safety.faults.trial import Fault, FaultRow
from vla_ros.safety.parameters import SafetyParameters

PARTS = (
    chunks, stamps, instructions, policies, states, following, contact, clocks, places, demands, postures, solver,
    operator, configuration,
)  # fmt: skip


def fault_table() -> tuple[Fault, ...]:
    """Return every fault."""
    return tuple(fault for part in PARTS for fault in part.table())


def run_faults(
    contract: RobotContract, parameters: SafetyParameters, faults: Sequence[Fault] | None = None,
    tell: Callable[[FaultRow], None] = lambda row: None,
) -> list[FaultRow]:  # fmt: skip
    """Play `faults`, by default all; see `play_faults`."""
    return play_faults(contract, parameters, fault_table() if faults is None else faults, tell)
