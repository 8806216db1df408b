"""From a name or a path to a policy that can act."""

from __future__ import annotations

import json
from pathlib import Path

from vla_ros.errors import CheckpointError
from vla_ros.paths import share_file
from vla_ros.policies.protocol import Policy
from vla_ros.robot.contract import RobotContract
from vla_ros.yaml_files import parse_yaml

SHIPPED = {"pick": "checkpoints/pick", "tabletop": "checkpoints/tabletop"}
"""Simulated world to the policy that ships with the package for it."""

DEFAULT_CHECKPOINT = SHIPPED["pick"]


def shipped_policy(world: str, contract: RobotContract) -> str | None:
    """Return the checkpoint that ships for a world and the joints of `contract`'s robot; None where there is none."""
    trained = json.loads((find_checkpoint(SHIPPED[world]) / "policy.json").read_text(encoding="utf-8"))
    names = parse_yaml(trained["contract"])["joints"]["names"]
    return SHIPPED[world] if tuple(names) == contract.joints.names else None


def load_policy(
    name_or_path: str, contract: RobotContract, device: str = "auto", precision: str = "fp32"
) -> Policy:  # fmt: skip
    """Return the policy in a checkpoint folder, ready for `contract`'s robot.

    Args:
        name_or_path: A folder, a path below the shipped files, or the name of a shipped checkpoint ("pick").
        contract: The robot it shall drive.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        precision: "fp32", "bf16" or "fp16", of the weights and of what the network computes with.

    Raises:
        CheckpointError: when there is none, it is damaged, or it does not fit the robot.
    """
    from vla_ros.policies.local import LocalPolicy  # torch is imported only by those who need it

    return LocalPolicy(find_checkpoint(name_or_path), contract, device, precision)


def find_checkpoint(name_or_path: str) -> Path:
    """Return the folder of a checkpoint; see `load_policy`. Nothing is loaded.

    Raises:
        CheckpointError: when it is not there, with the names of those that ship with the package.
    """
    candidates = [Path(name_or_path), Path("checkpoints") / name_or_path]
    for candidate in candidates:
        try:
            return share_file(candidate)
        except FileNotFoundError:
            continue
    raise CheckpointError(
        f"no checkpoint '{name_or_path}': looked for {', '.join(str(c) for c in candidates)}; "
        f"train one with 'vla-ros train' or use one of {sorted(SHIPPED.values())}"
    )
