"""Provenance of trained weights: a training resumes with the same data, options and vocabulary, or not at all.

The normalization statistics define what a network's normalized values mean. With the statistics of other data the
outputs would change, and nothing would look wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vla_ros.models.checkpoint import PolicyBundle, weights_digest
from vla_ros.training.loop_options import LoopOptions
from vla_ros.yaml_files import parse_yaml

if TYPE_CHECKING:
    from vla_ros.training.algorithms.action_head import ActionHeadOptions
    from vla_ros.training.algorithms.behavioral_cloning import BcOptions, Demonstrations

CHANGEABLE = frozenset(
    {
        "steps",
        "save_every",
        "report_every",
        "grad_accum_steps",
        "precision",
        "checkpointing",
        "tensorboard",
        "workers",
    }
)
"""Loop options that may change when a training is resumed: its length, and how it is carried out."""

STORED = {"max_grad_norm": "clip", "ema_decay": "average", "param_groups": "parts"}
"""Loop options to their keys in saved states, which are those of earlier versions, so that these can be resumed."""


def dataset_fingerprint(dataset: Demonstrations) -> dict[str, Any]:
    """Return a dataset fingerprint; call it before a checkpoint's normalizers replace the fitted ones."""
    statistics = dataset.processor.statistics.to_dict()
    return {"episodes": dataset.episodes, "steps": dataset.count, "statistics": _digest(statistics)}


def bc_provenance(options: BcOptions, data: dict[str, Any], bundle: PolicyBundle) -> dict[str, Any]:
    """Return the provenance of a cloned policy's weights; `data` comes from `dataset_fingerprint`."""
    return {
        "data": data,
        "model": bundle.model,
        "model_config": _one_line(bundle.model_config),
        "specification": bundle.action.to_dict(),
        "normalizers": _digest(bundle.processor.statistics.to_dict()),
        "words": _digest(bundle.words),
        "sentence_length": bundle.processor.features.words,
        "contract": parse_yaml(bundle.contract),
        "batch": options.batch,
        "seed": options.seed,
        "adaptation": asdict(options.adaptation),
        "anew": list(options.reinit_modules),  # the key of checkpoints saved so far
        "start_from": None if options.start_from is None else weights_digest(options.start_from)[:12],
        "loop": _loop(options.loop),
    }


def action_head_provenance(options: ActionHeadOptions, data: dict[str, Any], policy: str) -> dict[str, Any]:
    """Return the provenance of an action head; `policy` is the digest of the initial weights."""
    return {
        "data": data,
        "policy": policy[:12],
        "variants": options.variants,
        "batch": options.batch,
        "seed": options.seed,
        "loop": _loop(options.loop),
    }


def _loop(options: LoopOptions) -> dict[str, Any]:
    lines = {STORED.get(name, name): value for name, value in asdict(options).items() if name not in CHANGEABLE}
    return lines | {"parts": _one_line(lines["parts"])}


def _one_line(values: Mapping[str, Any]) -> str:
    """Return a mapping as one line, so that a key on only one side is a difference, too."""
    return json.dumps(values, sort_keys=True)


def _digest(values: Any) -> str:  # noqa: ANN401 (whatever JSON can say)
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]
