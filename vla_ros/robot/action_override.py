"""Overrides the action space of a robot contract, such as joint-space actions for a robot commanded in tool space.

Limits, cameras and controllers stay those of the robot; only the meaning of a chunk's columns changes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import yaml

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ContractError
from vla_ros.robot.contract import RobotContract, check_frames
from vla_ros.robot.sections.arm_list import check_action
from vla_ros.yaml_files import parse_yaml


def with_action(contract: RobotContract, action: ActionSpace) -> RobotContract:
    """Return the contract of the same robot with another action space.

    Raises:
        ContractError: when the action space does not match the robot's arms.
    """
    where = f"robot '{contract.name}'"
    check_frames(action, contract.base_frame, where)
    check_action(contract.arms, action, where)
    values = {**parse_yaml(contract.text), "action": action.to_dict()}
    return replace(contract, action=action, text=yaml.safe_dump(values, sort_keys=False))


def write_contract(contract: RobotContract, folder: Path) -> Path:
    """Write a contract into `folder` for other processes to load; return the file's absolute path.

    The file name contains a digest of the content, so that two contracts never share a file.

    Raises:
        ContractError: when it cannot be written.
    """
    values = {**parse_yaml(contract.text), "urdf": str(contract.urdf)}  # the file is not next to the robot description
    text = yaml.safe_dump(values, sort_keys=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = folder.absolute() / f"{contract.name}_{digest}.yaml"
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise ContractError(f"the contract of robot '{contract.name}' cannot be written to {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path
