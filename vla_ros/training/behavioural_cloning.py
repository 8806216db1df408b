"""Behavioural cloning: a network learns to say what the expert would have done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla_ros.models.build import build_model
from vla_ros.models.checkpoint import PolicyBundle, save_checkpoint
from vla_ros.models.options import model_values
from vla_ros.models.published import load_published
from vla_ros.robot.contract import RobotContract
from vla_ros.training.dataset import SENTENCE_LENGTH, PickDataset
from vla_ros.training.loop import LoopOptions, TrainingLoop, TrainingRecord


def train_policy(
    dataset: PickDataset, contract: RobotContract, model: str, out: Path, options: LoopOptions, *,
    batch: int, seed: int, device: torch.device, resume: bool = False, notes: Mapping[str, Any] | None = None,
    start_from: Path | None = None, report: Callable[[TrainingRecord], None] | None = None,
    model_options: Mapping[str, Any] | None = None,
) -> float:  # fmt: skip
    """Train the network called `model` and write its checkpoint to `out`; returns the last loss.

    Args:
        dataset: What to learn from.
        contract: The robot; travels inside the checkpoint.
        model: Name in the table of models.
        out: Folder of the checkpoint and of the state to resume from.
        options: Of the loop.
        batch: Steps of the data set an update.
        seed: Of weights and batches.
        device: Where to compute.
        resume: Continue from `out` where it stopped.
        notes: Said in the checkpoint about its training.
        start_from: A checkpoint whose weights to begin with; its normalisers are kept, so that they still fit.
        report: Called every 50 updates.
        model_options: Size of the network, lines of its configuration, and published backbones, see `model_values`.
    """
    torch.manual_seed(seed)
    bundle, sources = _bundle(dataset, contract, model, notes or {}, model_options or {})
    network = build_model(model, bundle.model_config)
    if sources and start_from is None and not resume:
        load_published(network, sources, bundle.words)
    if start_from is not None:
        bundle = _continue_from(start_from, network, dataset, bundle)
    loop = TrainingLoop(network, options, device)
    if resume:
        loop.resume(out)
    rng = np.random.default_rng([seed, loop.step])
    loss = loop.run(dataset.batches(batch, rng), out, report)
    save_checkpoint(out, loop.averaged, bundle)
    return loss


def _bundle(
    dataset: PickDataset, contract: RobotContract, model: str, notes: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[PolicyBundle, dict[str, str]]:
    """Return all but the weights, and the sources of published weights by the lines that name them."""
    sizes = {c.name: (c.policy_height, c.policy_width) for c in contract.cameras if c.name in dataset.cameras}
    needed = {
        "cameras": sizes,
        "vocabulary": dataset.tokenizer.size,
        "state_width": int(dataset.statistics.state.mean.shape[0]),
        "horizon": dataset.specification.horizon,
    }
    config, sources = model_values(model, needed, options, SENTENCE_LENGTH)
    statistics = dataset.statistics
    bundle = PolicyBundle(
        model=model, model_config=config, specification=dataset.specification, position=statistics.position,
        rotation=statistics.rotation, state=statistics.state, words=dataset.tokenizer.words,
        sentence_length=SENTENCE_LENGTH, contract=contract.text,
        training={**notes, **({"published": sources} if sources else {})},
    )  # fmt: skip
    return bundle, sources


def _continue_from(folder: Path, network: torch.nn.Module, dataset: PickDataset, bundle: PolicyBundle) -> PolicyBundle:
    from dataclasses import replace

    from vla_ros.models.checkpoint import load_checkpoint
    from vla_ros.training.dataset import Statistics

    earlier, before = load_checkpoint(folder, torch.device("cpu"))
    network.load_state_dict(earlier.state_dict())
    dataset.statistics = Statistics(before.position, before.rotation, before.state)
    return replace(bundle, position=before.position, rotation=before.rotation, state=before.state)


def curve_picture(records: Sequence[TrainingRecord], path: Path) -> None:
    """Draw the loss and its parts over the updates."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=110)
    steps = [r.step for r in records]
    axes.plot(steps, [r.loss for r in records], color="black", linewidth=1.6, label="all")
    for name in records[0].parts if records else ():
        axes.plot(steps, [r.parts[name] for r in records], linewidth=0.9, label=name)
    axes.set(xlabel="update", ylabel="loss", yscale="log", title="Training")
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


__all__: Sequence[str] = ("curve_picture", "train_policy")
