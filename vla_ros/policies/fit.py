"""Whether a policy was made for this robot: lines of the two contracts that have to agree."""

from __future__ import annotations

from typing import Any

from vla_ros.robot.contract import RobotContract
from vla_ros.yaml_files import parse_yaml

FITTING_LINES = ("joints.names", "gripper.max_opening", "base_frame", "end_effector_frame")
"""Lines that decide what the numbers of a policy mean."""


def robot_lines(contract: RobotContract) -> dict[str, Any]:
    """Return the `FITTING_LINES` of a contract, to store with a policy that was trained for it."""
    values = parse_yaml(contract.text)
    return {line: value_at(values, line) for line in FITTING_LINES}


def value_at(values: object, line: str) -> object:
    """Return what stands at a dotted line of plain values; None where there is nothing."""
    for part in line.split("."):
        if not isinstance(values, dict) or part not in values:
            return None
        values = values[part]
    return values
