"""A trained policy on disk: weights as safetensors (nothing is unpickled) and one JSON file with all it needs to run.

The folder holds `weights.safetensors`, `policy.json` (network, normalisers, action specification, words, cameras, the
robot contract it was trained for, hash of the weights) and a card `README.md` for people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from vla_ros.actions.normaliser import Normaliser
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import CheckpointError, VlaError
from vla_ros.models.build import build_model
from vla_ros.models.contract import VlaModel

WEIGHTS_FILE, POLICY_FILE, CARD_FILE = "weights.safetensors", "policy.json", "README.md"
FORMAT = 1


@dataclass(frozen=True)
class PolicyBundle:
    """Everything but the weights.

    Attributes:
        model: Name in the table of models.
        model_config: Plain values that the network is built from.
        specification: Convention of the actions.
        position: Statistics of the position columns, (horizon, 3).
        rotation: Statistics of the rotation columns, (horizon, 3).
        state: Statistics of the proprioception, (state_width,).
        words: Vocabulary of the tokenizer, in order.
        sentence_length: Words a sentence is padded to.
        contract: YAML of the robot contract it was trained for.
        training: How it was trained, for the card.
    """

    model: str
    model_config: Mapping[str, Any]
    specification: ActionSpace
    position: Normaliser
    rotation: Normaliser
    state: Normaliser
    words: tuple[str, ...]
    sentence_length: int
    contract: str
    training: Mapping[str, Any]


def save_checkpoint(folder: Path, network: VlaModel, bundle: PolicyBundle) -> None:
    """Write weights and description; the folder is usable only when both are there and belong together."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    new_weights, new_policy = folder / (WEIGHTS_FILE + ".partial"), folder / (POLICY_FILE + ".partial")
    save_file(weights, new_weights)
    description = {
        "format": FORMAT,
        "weights_sha256": _sha256(new_weights),
        "model": bundle.model,
        "model_config": dict(bundle.model_config),
        "specification": bundle.specification.to_dict(),
        "position": bundle.position.to_dict(),
        "rotation": bundle.rotation.to_dict(),
        "state": bundle.state.to_dict(),
        "words": list(bundle.words),
        "sentence_length": bundle.sentence_length,
        "contract": bundle.contract,
        "training": dict(bundle.training),
    }
    new_policy.write_text(json.dumps(description, indent=1), encoding="utf-8")
    new_weights.replace(folder / WEIGHTS_FILE)
    new_policy.replace(folder / POLICY_FILE)


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 of the weights in a folder, in hexadecimal.

    Raises:
        CheckpointError: when they cannot be read.
    """
    try:
        return _sha256(folder / WEIGHTS_FILE)
    except OSError as error:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} cannot be read: {error}") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load_bundle(folder: Path) -> PolicyBundle:
    """Read the description.

    Raises:
        CheckpointError: when it is absent, of another format, or a line is missing.
    """
    return _read_description(folder)[0]


def _read_description(folder: Path) -> tuple[PolicyBundle, str | None]:
    """Return the description, and the SHA-256 of the weights that it was written for; earlier versions did not say."""
    path = folder / POLICY_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no checkpoint in {folder}: {POLICY_FILE} is missing; train one with 'vla-ros train'"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a policy description of format {FORMAT}")
    try:
        bundle = PolicyBundle(
            model=str(values["model"]),
            model_config=values["model_config"],
            specification=ActionSpace.from_dict(values["specification"]),
            position=Normaliser.from_dict(values["position"]),
            rotation=Normaliser.from_dict(values["rotation"]),
            state=Normaliser.from_dict(values["state"]),
            words=tuple(values["words"]),
            sentence_length=int(values["sentence_length"]),
            contract=str(values["contract"]),
            training=values["training"],
        )
        return bundle, values.get("weights_sha256")
    except (KeyError, TypeError, ValueError, VlaError) as error:
        raise CheckpointError(f"{path} is incomplete: {error}") from error


def load_checkpoint(folder: Path, device: torch.device) -> tuple[VlaModel, PolicyBundle]:
    """Return the network with its weights on `device`, in evaluation mode, and its description.

    Raises:
        CheckpointError: when a file is missing or damaged, or the weights do not fit the network or the description.
    """
    bundle, written_for = _read_description(folder)
    try:
        network: VlaModel = build_model(bundle.model, bundle.model_config)
        weights = load_file(folder / WEIGHTS_FILE, device="cpu")
        broken = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
        if broken:
            raise CheckpointError(f"{folder / WEIGHTS_FILE}: weights are not finite in {broken}")
        if written_for not in (None, weights_digest(folder)):
            raise CheckpointError(
                f"{folder / WEIGHTS_FILE} holds other weights than {POLICY_FILE} was written for, as when saving is "
                "cut off: run the training again, or bring back both files from one place"
            )
        network.load_state_dict(weights)
    except CheckpointError:
        raise
    except Exception as error:  # safetensors and torch raise types of their own
        raise CheckpointError(f"{folder / WEIGHTS_FILE} cannot be loaded: {type(error).__name__}: {error}") from error
    return network.to(device).eval(), bundle
