"""Policy checkpoints: weights as safetensors (nothing is unpickled) and one JSON file with everything else.

The folder holds `weights.safetensors`, `policy.json` (network, processor, the robot contract it was trained for, hash
of the weights) and a model card `README.md`. Format 1, limited to the tool of one arm, can be read as well.
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

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import CheckpointError, VlaError
from vla_ros.language.tokenizer import WordTokenizer
from vla_ros.models.build import build_model
from vla_ros.models.contract import VlaModel
from vla_ros.processing.features import CameraFeature, PolicyFeatures, tool_state
from vla_ros.processing.normalizer import Normalizer
from vla_ros.processing.processor import Processor, Statistics

WEIGHTS_FILE, POLICY_FILE, CARD_FILE = "weights.safetensors", "policy.json", "README.md"
FORMAT, TOOL_FORMAT = 2, 1


@dataclass(frozen=True)
class PolicyBundle:
    """A policy without its weights.

    Attributes:
        model: Name in the table of models.
        model_config: Plain values that configure the network.
        processor: Converts observations to the network's tensors, and its outputs to actions.
        contract: YAML of the robot contract it was trained for.
        training: Training configuration, for the model card.
    """

    model: str
    model_config: Mapping[str, Any]
    processor: Processor
    contract: str
    training: Mapping[str, Any]

    @property
    def action(self) -> ActionSpace:
        """Action space of the chunks."""
        return self.processor.features.action

    @property
    def words(self) -> tuple[str, ...]:
        """Vocabulary of the tokenizer, in order."""
        return self.processor.tokenizer.words


def save_checkpoint(folder: Path, network: VlaModel, bundle: PolicyBundle) -> None:
    """Write weights and description; the folder is valid only with both files of the same save."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    new_weights, new_policy = folder / (WEIGHTS_FILE + ".partial"), folder / (POLICY_FILE + ".partial")
    save_file(weights, new_weights)
    description = {
        "format": FORMAT,
        "weights_sha256": _sha256(new_weights),
        "model": bundle.model,
        "model_config": dict(bundle.model_config),
        "processor": bundle.processor.to_dict(),
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
    """Read the description of a checkpoint.

    Raises:
        CheckpointError: when it is missing, of another format, or incomplete.
    """
    return _read_description(folder)[0]


def _read_description(folder: Path) -> tuple[PolicyBundle, str | None]:
    """Return the description, and the SHA-256 of its weights; None in files of earlier versions."""
    path = folder / POLICY_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no checkpoint in {folder}: {POLICY_FILE} is missing; train one with 'vla-ros train'"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict) or values.get("format") not in (FORMAT, TOOL_FORMAT):
        raise CheckpointError(f"{path} is not a policy description of format {TOOL_FORMAT} or {FORMAT}")
    try:
        bundle = PolicyBundle(
            model=str(values["model"]),
            model_config=values["model_config"],
            processor=(
                _processor_of_tool(values)
                if values["format"] == TOOL_FORMAT
                else Processor.from_dict(values["processor"])
            ),
            contract=str(values["contract"]),
            training=values["training"],
        )
        return bundle, values.get("weights_sha256")
    except (KeyError, TypeError, ValueError, VlaError) as error:
        raise CheckpointError(f"{path} is incomplete: {error}") from error


def _processor_of_tool(values: Mapping[str, Any]) -> Processor:
    """Build the processor from a description of format 1 (one arm at its tool)."""
    action = ActionSpace.from_dict(values["specification"])
    cameras = values["model_config"]["cameras"].items()
    return Processor(
        PolicyFeatures(
            cameras=tuple(CameraFeature(str(name), int(size[0]), int(size[1])) for name, size in cameras),
            state=tool_state(action),
            action=action,
            words=int(values["sentence_length"]),
        ),
        Statistics(
            state=Normalizer.from_dict(values["state"]),
            action=Normalizer.from_dict(values["position"]).joined(Normalizer.from_dict(values["rotation"])),
        ),
        WordTokenizer(tuple(values["words"])),
    )


def load_checkpoint(folder: Path, device: torch.device) -> tuple[VlaModel, PolicyBundle]:
    """Load a network on `device`, in evaluation mode, and its description.

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
    except Exception as error:  # safetensors and torch raise their own types
        raise CheckpointError(f"{folder / WEIGHTS_FILE} cannot be loaded: {type(error).__name__}: {error}") from error
    return network.to(device).eval(), bundle
