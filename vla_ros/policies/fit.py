"""Whether a policy was made for this robot: lines of the two contracts that have to agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_ros.robot.contract import RobotContract
from vla_ros.yaml_files import parse_yaml

BASE = "base_frame"

FITTING_LINES = ("joints.names", "gripper.max_opening", BASE, "end_effector_frame")
"""Lines that decide what the numbers of a policy mean; of several arms each has its own, but for the base."""


def robot_lines(contract: RobotContract) -> dict[str, Any]:
    """Return the `FITTING_LINES` of a contract, to store with a policy that was trained for it."""
    return fitting_lines(parse_yaml(contract.text))


def fitting_lines(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return line to value of a contract's plain values; those of one of several arms are `arms.<name>.<line>`."""
    if "arms" not in values:
        return {line: value_at(values, line) for line in FITTING_LINES}
    of_arm = [line for line in FITTING_LINES if line != BASE]
    lines = [BASE, *(f"arms.{arm['name']}.{line}" for arm in values["arms"] for line in of_arm)]
    return {line: value_at(values, line) for line in lines}


def value_at(values: object, line: str) -> object:
    """Return what stands at a dotted line of plain values, a list's entries by their `name`; None for nothing."""
    for part in line.split("."):
        if isinstance(values, list):
            values = {one["name"]: one for one in values if isinstance(one, dict) and "name" in one}
        if not isinstance(values, dict) or part not in values:
            return None
        values = values[part]
    return values
