"""Lines of the robot contract that must be equal for a policy and its robot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_ros.robot.contract import RobotContract
from vla_ros.yaml_files import parse_yaml

BASE = "base_frame"

FITTING_LINES = ("joints.names", "gripper.max_opening", BASE, "end_effector_frame")
"""Lines that define the meaning of a policy's numbers; with several arms each has its own, except for the base."""


def robot_lines(contract: RobotContract) -> dict[str, Any]:
    """Return the `FITTING_LINES` of a contract, to store with a policy that was trained for it."""
    return fitting_lines(parse_yaml(contract.text))


def fitting_lines(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fitting lines of a contract, by name; with several arms, names are `arms.<name>.<line>`."""
    if "arms" not in values:
        return {line: value_at(values, line) for line in FITTING_LINES}
    of_arm = [line for line in FITTING_LINES if line != BASE]
    lines = [BASE, *(f"arms.{arm['name']}.{line}" for arm in values["arms"] for line in of_arm)]
    return {line: value_at(values, line) for line in lines}


def value_at(values: object, line: str) -> object:
    """Return the value at a dotted line of plain values, list entries by their `name`; None if there is none."""
    for part in line.split("."):
        if isinstance(values, list):
            values = {one["name"]: one for one in values if isinstance(one, dict) and "name" in one}
        if not isinstance(values, dict) or part not in values:
            return None
        values = values[part]
    return values
