"""Whether a policy was made for this robot: lines of the two contracts that have to agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import CheckpointError
from vla_ros.robot.contract import RobotContract
from vla_ros.yaml_files import parse_yaml

FITTING_LINES = ("joints.names", "gripper.max_opening", "base_frame", "end_effector_frame")
"""Lines that decide what the numbers of a policy mean."""


def check_fit(trained: str, contract: RobotContract) -> None:
    """Compare the contract that a policy was trained for with the robot's, line by line.

    Raises:
        CheckpointError: listing every line that differs and matters.
    """
    try:
        then, now = parse_yaml(trained), parse_yaml(contract.text)
    except yaml.YAMLError as error:
        raise CheckpointError(f"the robot contract in the checkpoint cannot be read: {error}") from error
    sides = [f"cameras.{name}.policy_{side}" for name in then["cameras"] for side in ("height", "width")]
    lines = {line: value_at(then, line) for line in (*FITTING_LINES, *sides)}
    if wrong := _differences(lines, now, contract.name):
        raise CheckpointError("the checkpoint does not fit the robot: " + "; ".join(wrong))


def robot_lines(contract: RobotContract) -> dict[str, Any]:
    """Return the `FITTING_LINES` of a contract, to store with a policy that was trained for it."""
    values = parse_yaml(contract.text)
    return {line: value_at(values, line) for line in FITTING_LINES}


def misfits(lines: Mapping[str, Any], contract: RobotContract) -> list[str]:
    """Return a sentence for each line, such as `joints.names`, that differs from the robot's contract."""
    return _differences(lines, parse_yaml(contract.text), contract.name)


def action_misfits(trained: ActionSpace, robot: ActionSpace) -> list[str]:
    """Return a line for each difference of two action spaces that resampling does not bridge: all but rate, horizon."""
    return replace(trained, rate_hz=robot.rate_hz, horizon=robot.horizon).differences(robot)


def _differences(lines: Mapping[str, Any], now: object, robot: str) -> list[str]:
    wrong = []
    for line, before in lines.items():
        after = value_at(now, line)
        if before != after:
            wrong.append(f"{line}: trained with {before!r}, robot '{robot}' has {after!r}")
    return wrong


def value_at(values: object, line: str) -> object:
    """Return what stands at a dotted line of plain values; None where there is nothing."""
    for part in line.split("."):
        if not isinstance(values, dict) or part not in values:
            return None
        values = values[part]
    return values
