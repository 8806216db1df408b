"""Trains the action head of the compositional network on cached target features; the rest is frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from vla_ros.errors import VlaError
from vla_ros.models.checkpoint import load_checkpoint, save_checkpoint, weights_digest
from vla_ros.models.contract import VlaModel
from vla_ros.models.networks.compositional import CompositionalModel
from vla_ros.training.algorithms.behavioral_cloning import watch_training
from vla_ros.training.algorithms.target_features import TargetFeatureDataset, decide
from vla_ros.training.datasets.source import SeededBatches
from vla_ros.training.datasets.tabletop import TabletopDataset
from vla_ros.training.held_out import Play, held_out_episodes
from vla_ros.training.loop import TrainingLoop
from vla_ros.training.loop_options import HeldOutOptions, LoopOptions, ParamGroupOptions
from vla_ros.training.provenance import action_head_provenance, dataset_fingerprint
from vla_ros.training.records import TrainingRecord

STAYS = ("eyes", "reader")


@dataclass(frozen=True)
class ActionHeadOptions:
    """Options of training the action head.

    Attributes:
        loop: Options of the loop.
        batch: Number of dataset steps per update.
        variants: See `TargetFeatureDataset`.
        seed: Seed of the batches.
        resume: Whether to continue from the state in the checkpoint's folder.
        notes: Notes about the training in the checkpoint, in addition to its existing ones.
        held_out: See `BcOptions`; likewise `play` and `history`.
    """

    loop: LoopOptions
    batch: int
    variants: int
    seed: int = 0
    resume: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)
    held_out: HeldOutOptions = HeldOutOptions(fraction=0.0)  # noqa: RUF009 (frozen)
    play: Play | None = None
    history: Sequence[TrainingRecord] = ()


def train_action_head(
    dataset: TabletopDataset,
    policy: Path,
    out: Path,
    options: ActionHeadOptions,
    device: torch.device,
    report: Callable[[TrainingRecord], None] | None = None,
) -> float:
    """Train the action head of checkpoint `policy` and write the result to `out`; return the last loss.

    Raises:
        VlaError: when the network has no separate action head, or the state to resume from belongs to other data,
            options or another vision encoder.
    """
    # One of several processes writes the checkpoint and the target features; the others wait for both.
    with PartialState(cpu=device.type == "cpu").main_process_first():
        network, bundle = load_checkpoint(policy, torch.device("cpu"))
        if not isinstance(network, CompositionalModel):
            raise VlaError(f"{policy} holds a '{bundle.model}': only 'compositional' decides apart from what it sees")
        held = held_out_episodes(dataset.groups, options.held_out.fraction)
        data = dataset_fingerprint(dataset) | {"held_out": len(held)}
        belongs_to = action_head_provenance(options, data, weights_digest(policy))
        dataset = dataset.with_processor(bundle.processor)
        features = TargetFeatureDataset(dataset.without(held) if held else dataset, network, options.variants, device)
    stays = {name: ParamGroupOptions(0) for name in STAYS}
    loop = TrainingLoop(network.trainable(), replace(options.loop, param_groups=stays), device, decide, belongs_to)
    if options.resume:
        loop.resume(out)

    def save(folder: Path, trained: VlaModel, measured: Mapping[str, Any]) -> None:
        notes = {**bundle.training, **options.notes, **measured}
        save_checkpoint(folder, trained, replace(bundle, training=notes))

    watch = watch_training(dataset, options, device, out, save, loop.step)
    loss = loop.run(SeededBatches(features, options.batch, options.seed), out, report, held_out=watch)
    if loop.is_main and not watch.kept:
        save(out, loop.averaged, {})
    return loss
