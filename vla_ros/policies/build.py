"""Builds a policy from its name."""

from __future__ import annotations

import json
from pathlib import Path

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import CheckpointError, ContractError
from vla_ros.paths import share_file
from vla_ros.policies.execution.executor import ChunkExecutor
from vla_ros.policies.protocol import Policy
from vla_ros.policies.registry import SHIPPED, find_policy
from vla_ros.robot.action_override import with_action, write_contract
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.yaml_files import parse_yaml

DEFAULT_CHECKPOINT = SHIPPED["pick"]


def shipped_policy(world: str, contract: RobotContract) -> str | None:
    """Return the shipped checkpoint for a world and the joints of `contract`'s robot; None if there is none."""
    trained = json.loads((share_file(SHIPPED[world]) / "policy.json").read_text(encoding="utf-8"))
    names = parse_yaml(trained["contract"])["joints"]["names"]
    return SHIPPED[world] if tuple(names) == contract.joints.names else None


def load_policy(name: str, contract: RobotContract, device: str = "auto", precision: str = "fp32") -> Policy:
    """Load the policy that `name` refers to, ready for `contract`'s robot.

    Args:
        name: See `vla_ros.policies.registry`: a folder, a policy file, an address, `module:Class`, an entry point.
        contract: Contract of the robot to drive.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        precision: "fp32", "bf16" or "fp16", of the weights and of the network's computations.

    Raises:
        CheckpointError: when it is missing, damaged, or does not fit the robot.
    """
    return find_policy(name).load(contract, device, precision)


def load_executor(
    name: str, contract: RobotContract, device: str = "auto", precision: str = "fp32", execution: str = "auto"
) -> ChunkExecutor:
    """Load the policy that `name` refers to, with its execution mode.

    Args:
        name: See `load_policy`.
        contract: Contract of the robot to drive.
        device: See `load_policy`.
        precision: See `load_policy`.
        execution: A `Mode`; "auto": the mode in the policy's file, else the one that suits the measured delay.

    Raises:
        CheckpointError: see `load_policy`.
        ContractError: for an unknown mode.
    """
    source = find_policy(name)
    settings = source.execution.with_mode(execution)
    return ChunkExecutor(source.load(contract, device, precision), contract, settings)


def commanded_by(policy: str, contract: RobotContract) -> RobotContract:
    """Return the contract with the policy's joint-space actions if the contract commands the tool; else unchanged.

    This applies only to a checkpoint that acts in joint space. Limits, cameras and controllers stay the robot's. Any
    other difference is left for `load_policy` to reject.

    Raises:
        CheckpointError: when there is no such policy.
    """
    source = find_policy(policy)
    action = _checkpoint_action(Path(source.place)) if source.kind == "checkpoint" else None
    if action is None or contract.commands_joints or not action.of_joints:
        return contract
    try:
        return with_action(contract, action)
    except ContractError:  # of another arm
        return contract


def robot_for(policy: str, robot: str, folder: Path) -> str:
    """Return the robot argument of a graph's processes: `robot`, or the file of a contract from `commanded_by`.

    Args:
        policy: See `vla_ros.policies.registry`.
        robot: Name or file of the robot contract.
        folder: Folder for the written contract when the policy's action space differs from that of `robot`.

    Raises:
        ContractError: when there is no such robot, or the contract cannot be written.
        CheckpointError: when there is no such policy.
    """
    contract = load_contract(robot)
    commanded = commanded_by(policy, contract)
    return robot if commanded is contract else str(write_contract(commanded, folder))


def _checkpoint_action(folder: Path) -> ActionSpace | None:
    """Return the action space of a checkpoint; None if it is unreadable, which loading it will report."""
    try:
        values = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
        return ActionSpace.from_dict(values["processor"]["features"]["action"])
    except (OSError, ValueError, KeyError, TypeError, ContractError):
        return None


def find_checkpoint(name: str) -> Path:
    """Return the folder of a checkpoint of this package, without loading it.

    Raises:
        CheckpointError: when it is missing, or is another kind of policy.
    """
    source = find_policy(name)
    if source.kind != "checkpoint":
        raise CheckpointError(f"policy '{name}' is of kind {source.kind}, expected a folder written by 'vla-ros train'")
    return Path(source.place)
