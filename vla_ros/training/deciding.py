"""Trains the half of the compositional network that decides, on glances at the demonstrations; the rest stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from vla_ros.errors import VlaError
from vla_ros.models.checkpoint import load_checkpoint, save_checkpoint, weights_digest
from vla_ros.models.compositional import CompositionalModel
from vla_ros.training.glances import GlanceDataset, decide
from vla_ros.training.loop import TrainingLoop, TrainingRecord
from vla_ros.training.loop_options import LoopOptions, PartOptions
from vla_ros.training.provenance import data_lines, deciding_lines
from vla_ros.training.source import SeededBatches
from vla_ros.training.tabletop_dataset import TabletopDataset

STAYS = ("eyes", "reader")


@dataclass(frozen=True)
class DecidingOptions:
    """How the half that decides is trained.

    Attributes:
        loop: Options of the loop.
        batch: Steps of the data set an update.
        variants: See `GlanceDataset`.
        seed: Of the batches.
        resume: Continue where the folder of the checkpoint stopped.
        notes: Said in the checkpoint about its training, beside what it says already.
    """

    loop: LoopOptions
    batch: int
    variants: int
    seed: int = 0
    resume: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


def train_deciding(
    dataset: TabletopDataset, policy: Path, out: Path, options: DecidingOptions, device: torch.device,
    report: Callable[[TrainingRecord], None] | None = None,
) -> float:  # fmt: skip
    """Go on from the checkpoint `policy`, write another to `out`; returns the last loss.

    Raises:
        VlaError: when the network has no half that decides by itself, or the state to resume from belongs to other
            data, options or eyes.
    """
    # Of several processes one writes the checkpoint and the glances, and the others wait for both.
    with PartialState(cpu=device.type == "cpu").main_process_first():
        network, bundle = load_checkpoint(policy, torch.device("cpu"))
        if not isinstance(network, CompositionalModel):
            raise VlaError(f"{policy} holds a '{bundle.model}': only 'compositional' decides apart from what it sees")
        belongs_to = deciding_lines(options, data_lines(dataset), weights_digest(policy))
        glances = GlanceDataset(dataset.with_processor(bundle.processor), network, options.variants, device)
    stays = {name: PartOptions(0) for name in STAYS}
    loop = TrainingLoop(network.requires_grad_(True), replace(options.loop, parts=stays), device, decide, belongs_to)
    if options.resume:
        loop.resume(out)
    loss = loop.run(SeededBatches(glances, options.batch, options.seed), out, report)
    if loop.is_main:
        save_checkpoint(out, loop.averaged, replace(bundle, training={**bundle.training, **options.notes}))
    return loss
