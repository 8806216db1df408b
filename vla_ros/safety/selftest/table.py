"""The complete fault table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.selftest.faults import (
    chunks,
    clocks,
    configuration,
    contact,
    demands,
    following,
    instructions,
    joint_space,
    operator,
    places,
    policies,
    postures,
    solver,
    stamps,
    states,
)
from vla_ros.safety.selftest.judge import run_fault_rows
from vla_ros.safety.selftest.trial import Fault, FaultRow, commands_joints, commands_tool

PARTS = (
    chunks,
    joint_space,
    stamps,
    instructions,
    policies,
    states,
    following,
    contact,
    clocks,
    places,
    demands,
    postures,
    solver,
    operator,
    configuration,
)


def fault_table(contract: RobotContract | None = None) -> tuple[Fault, ...]:
    """Return all faults; for a contract, those that fit its kind of actions."""
    faults = (fault for part in PARTS for fault in part.table())
    kinds = (commands_joints, commands_tool)
    return tuple(one for one in faults if contract is None or one.applies not in kinds or one.applies(contract))


def run_faults(
    contract: RobotContract,
    parameters: SafetyParameters,
    faults: Sequence[Fault] | None = None,
    tell: Callable[[FaultRow], object] = lambda row: None,
) -> list[FaultRow]:
    """Run `faults`, by default the contract's table; see `run_fault_rows`."""
    return run_fault_rows(contract, parameters, fault_table(contract) if faults is None else faults, tell)
