"""Reads a policy's needs: a checkpoint's from its files, a server's from its features, a class's from an instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vla_ros.errors import CheckpointError, ContractError
from vla_ros.policies.compatibility import Needs
from vla_ros.policies.fit import fitting_lines, value_at
from vla_ros.policies.protocol import Policy
from vla_ros.processing.features import CameraFeature, PolicyFeatures
from vla_ros.yaml_files import parse_yaml

if TYPE_CHECKING:
    from vla_ros.models.checkpoint import PolicyBundle
    from vla_ros.policies.remote.features import RemoteFeatures


def needs_of_checkpoint(folder: Path) -> Needs:
    """Return the needs of a checkpoint of this package; its weights are not read.

    A checkpoint without usable statistics is described, too, so that this is just one line of the report.

    Raises:
        CheckpointError: when it is missing, or its description is incomplete.
    """
    from vla_ros.models.checkpoint import load_bundle

    try:
        return needs_of_bundle(load_bundle(folder), folder.name)
    except CheckpointError:
        if (described := _without_statistics(folder)) is None:
            raise
        features, contract, wrong = described
        return _needs_of_features(folder.name, features, contract, wrong)


def _without_statistics(folder: Path) -> tuple[PolicyFeatures, str, str] | None:
    """Return features, contract and the fault of the statistics, if nothing else is wrong; else None."""
    from vla_ros.models.checkpoint import POLICY_FILE

    try:
        values = json.loads((folder / POLICY_FILE).read_text(encoding="utf-8"))
        processor, contract = values["processor"], str(values["contract"])
        features, wrong = PolicyFeatures.from_dict(processor["features"]), _statistics_fault(processor)
    except (OSError, ValueError, KeyError, TypeError, ContractError):
        return None
    return (features, contract, wrong) if wrong else None


def needs_of_bundle(bundle: PolicyBundle, name: str) -> Needs:
    """Return the needs of a checkpoint according to its description.

    Raises:
        CheckpointError: when the contract in it cannot be read.
    """
    return _needs_of_features(name, bundle.processor.features, bundle.contract, "")


def _needs_of_features(name: str, features: PolicyFeatures, contract: str, statistics: str) -> Needs:
    try:
        then = parse_yaml(contract)
    except yaml.YAMLError as error:
        raise CheckpointError(f"the robot contract in the checkpoint cannot be read: {error}") from error
    sides = [f"cameras.{one.source}.policy_{side}" for one in features.cameras for side in ("height", "width")]
    sizes = {side: value_at(then, side) for side in sides}
    robot = fitting_lines(then) | {side: size for side, size in sizes.items() if size is not None}
    return Needs(name, features.action, features.cameras, features.state, robot, statistics)


def _statistics_fault(processor: Mapping[str, Any]) -> str:
    """Return the fault of a processor's statistics; "" if there is none."""
    from vla_ros.processing.processor import Statistics

    if not isinstance(processor.get("statistics"), Mapping):
        return "none"
    try:
        Statistics.from_dict(processor["statistics"])
    except (ContractError, KeyError, TypeError, ValueError) as error:
        return f"incomplete ones: {error}"
    return ""


def needs_of_features(features: RemoteFeatures, name: str) -> Needs:
    """Return the needs of a policy behind a server; its columns are converted to the robot's action space."""
    state = tuple(group for one in features.states for group in one.groups)
    cameras = tuple(one.feature for one in features.cameras)
    return Needs(name, features.action, cameras, state, dict(features.robot), None, converts=True)


def needs_of_policy(policy: Policy, name: str) -> Needs:
    """Return the needs of a policy of a user's class, as far as it states them."""
    cameras = tuple(CameraFeature(str(one), int(size[0]), int(size[1])) for one, size in policy.image_sizes.items())
    return Needs(name, policy.specification, cameras, scales=False)
