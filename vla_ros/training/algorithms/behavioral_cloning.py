"""Behavioural cloning: a network learns to say what the expert would have done."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray

from vla_ros.errors import VlaError
from vla_ros.models.build import build_model, model_class
from vla_ros.models.checkpoint import PolicyBundle, load_checkpoint, save_checkpoint
from vla_ros.models.columns import ActionColumns
from vla_ros.models.contract import ModelInput, ModelTarget, VlaModel
from vla_ros.models.layers.published import load_published, name_sources
from vla_ros.models.options import model_values
from vla_ros.processing.processor import Processor
from vla_ros.robot.contract import RobotContract
from vla_ros.training.algorithms.adaptation import Adaptation, adapt, merge_lora
from vla_ros.training.datasets.source import ReadImages, SeededBatches
from vla_ros.training.datasets.word_vectors import describe_words
from vla_ros.training.held_out import HeldOut, Play, held_out_episodes, play_saved
from vla_ros.training.loop import Objective, TrainingLoop, has_state
from vla_ros.training.loop_options import HeldOutOptions, LoopOptions, belongs
from vla_ros.training.provenance import cloning_lines, dataset_fingerprint
from vla_ros.training.records import HeldOutRecord, TrainingRecord
from vla_ros.training.trunk_features import with_trunk_features


class Demonstrations(Protocol):
    """Recorded steps, and what is known of them."""

    cameras: tuple[str, ...]
    count: int
    episodes: int
    groups: tuple[int, ...]
    episode_of: NDArray[np.int64]
    taught: tuple[str, ...]
    key: str | None
    processor: Processor

    def with_processor(self, processor: Processor) -> Demonstrations:
        """Return the same steps as another processor turns them into tensors."""
        ...

    def images(self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> Mapping[str, torch.Tensor]:
        """Return the pictures (B, 3, h, w) of steps, 0 to 1, changed as each one's generator says."""
        ...

    def with_images(self, read: ReadImages) -> Demonstrations:
        """Return the same steps with something else in the place of their pictures."""
        ...

    def without(self, episodes: Collection[int]) -> Demonstrations:
        """Return the same steps, of which `rows` draws those of other episodes alone."""
        ...

    def steps(
        self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]
    ) -> tuple[ModelInput, ModelTarget]:
        """Return the steps of these numbers, everything random about each drawn by its generator."""
        ...

    def rows(self, generators: Sequence[np.random.Generator], update: int) -> tuple[ModelInput, ModelTarget]:
        """Return one row a generator."""
        ...


@dataclass(frozen=True)
class CloningOptions:
    """How a network is trained on demonstrations.

    Attributes:
        loop: Options of the loop.
        batch: Steps of the data set an update.
        seed: Of weights and batches.
        model_options: Size of the network, lines of its configuration and published backbones; see `model_values`.
        adaptation: Fine-tuning that leaves most weights as they are; needs `start_from`.
        anew: Parts that begin with new weights, by the beginning of their parameters' names; the rest goes on.
        start_from: A checkpoint to begin with; its processor is kept, so that it still fits.
        resume: Continue where the folder of the checkpoint stopped.
        notes: Said in the checkpoint about its training.
        held_out: How the network is measured while it trains; by default it learns from all episodes.
        play: Plays a few scenes, where `held_out` says so.
        history: Records of the same training before it was interrupted.
        cache: Where what a frozen trunk says of the pictures is kept; None: it looks at them each time.
        variants: How often each picture is put before it.
    """

    loop: LoopOptions
    batch: int
    seed: int = 0
    model_options: Mapping[str, Any] = field(default_factory=dict)
    adaptation: Adaptation = field(default_factory=Adaptation)
    anew: Sequence[str] = ()
    start_from: Path | None = None
    resume: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)
    held_out: HeldOutOptions = HeldOutOptions(fraction=0.0)  # noqa: RUF009 (frozen)
    play: Play | None = None
    history: Sequence[TrainingRecord] = ()
    cache: Path | None = None
    variants: int = 1


def train_policy(
    dataset: Demonstrations,
    contract: RobotContract,
    model: str,
    out: Path,
    options: CloningOptions,
    device: torch.device,
    report: Callable[[TrainingRecord], None] | None = None,
    objective: Objective | None = None,
) -> float:
    """Train the network called `model` and write its checkpoint to `out`; returns the last loss.

    Args:
        dataset: What to learn from.
        contract: The robot; travels inside the checkpoint.
        model: Name in the table of models.
        out: Folder of the checkpoint and of the state to resume from.
        options: See there.
        device: Where to compute.
        report: Called now and then.
        objective: What to make small; by default what the network itself defines.

    Raises:
        VlaError: when the state to resume from belongs to other data or options, naming the lines.
    """
    torch.manual_seed(options.seed)
    held = held_out_episodes(dataset.groups, options.held_out.fraction)
    data = dataset_fingerprint(dataset) | {"held_out": len(held)}
    bundle, sources = make_bundle(dataset, contract, model, options.model_options, options.notes)
    if options.start_from is not None:
        network, bundle = _continue_from(options.start_from, dataset, bundle, options.model_options)
        dataset = dataset.with_processor(bundle.processor)
    else:
        network = build_model(model, bundle.model_config)
        if not (options.resume and has_state(out)):  # a saved state brings weights and word vectors of its own
            _give_what_is_known(network, sources, bundle.words)
    layers = adapt(network, options.adaptation)
    if options.anew:
        _begin_anew(network, build_model(model, bundle.model_config), options.anew)
    loop = TrainingLoop(network, options.loop, device, objective, cloning_lines(options, data, bundle))
    if options.resume:
        loop.resume(out)

    def save(folder: Path, trained: VlaModel, measured: Mapping[str, Any]) -> None:
        with_notes = replace(bundle, training={**bundle.training, **measured})
        save_checkpoint(folder, *finished(trained, with_notes, options.adaptation, layers))

    if options.cache is not None:
        with PartialState(cpu=device.type == "cpu").main_process_first():
            dataset = with_trunk_features(dataset, loop.network, options.cache, options.variants, loop.device)
    watch = watch_training(dataset, options, device, out, save, loop.step)
    source = SeededBatches(dataset.without(held) if held else dataset, options.batch, options.seed)
    loss = loop.run(source, out, report, held_out=watch)
    if loop.is_main and not watch.kept:
        save(out, loop.averaged, {})
    return loss


class Measured(Protocol):
    """Options of a training that is measured while it runs."""

    held_out: HeldOutOptions
    play: Play | None
    history: Sequence[TrainingRecord]


def watch_training(
    dataset: Demonstrations,
    options: Measured,
    device: torch.device,
    out: Path,
    save: Callable[[Path, VlaModel, Mapping[str, Any]], None],
    step: int,
) -> HeldOut:
    """Return what measures a training, which has come to the update `step`, and keeps the best network in `out`.

    Args:
        dataset: All its steps, as the network reads them.
        options: Say what is measured.
        device: Where to compute.
        out: Folder of the checkpoint.
        save: Writes a checkpoint to a folder, with what was measured among its notes.
        step: Of the training, more than 0 when it goes on.
    """

    def keep(network: VlaModel, update: int, record: HeldOutRecord) -> None:
        save(out, network, {"kept_update": update, "held_out": asdict(record)})

    play = None if options.play is None else play_saved(lambda folder, one: save(folder, one, {}), options.play, out)
    watch = HeldOut(dataset, options.held_out, device, keep, play)
    watch.go_on_from([record for record in options.history if record.step <= step])
    return watch


def _begin_anew(network: VlaModel, fresh: VlaModel, parts: Sequence[str]) -> None:
    """Give some parts the weights of a fresh network.

    Raises:
        VlaError: when the network has no such part.
    """
    weights = dict(network.named_parameters())
    for part in parts:
        if not any(belongs(name, part) for name in weights):
            raise VlaError(f"the network has no part '{part}', only {sorted({name.split('.')[0] for name in weights})}")
    for name, begun in fresh.named_parameters():
        if any(belongs(name, part) for part in parts):
            weights[name].data.copy_(begun.data)


def _give_what_is_known(network: Any, sources: Mapping[str, str], words: Sequence[str]) -> None:  # noqa: ANN401 (any network)
    """Give a new network its published weights, and the descriptions of words where it takes them."""
    if sources:
        load_published(network, sources, words)
    if hasattr(network, "set_word_vectors"):
        network.set_word_vectors(describe_words(words, network.config.word_width))


def finished(
    network: VlaModel, bundle: PolicyBundle, adaptation: Adaptation, layers: Sequence[str]
) -> tuple[VlaModel, PolicyBundle]:
    """Return what goes into the checkpoint: low-rank changes merged, adapters named."""
    if adaptation.method == "lora":
        return merge_lora(copy.deepcopy(network)), bundle  # type: ignore[return-value]
    if adaptation.method == "adapters":
        adapters = {"layers": list(layers), "width": adaptation.rank}
        return network, replace(bundle, model_config={**bundle.model_config, "adapters": adapters})
    return network, bundle


def make_bundle(
    dataset: Demonstrations,
    contract: RobotContract,
    model: str,
    options: Mapping[str, Any],
    notes: Mapping[str, Any],
) -> tuple[PolicyBundle, dict[str, str]]:
    """Return all that a checkpoint needs beside the weights, and the sources of published weights by their lines."""
    processor = dataset.processor
    features = processor.features
    needed: dict[str, Any] = {
        "cameras": features.network_cameras,
        "vocabulary": processor.tokenizer.size,
        "state_width": features.network_state_width,
        "horizon": features.action.horizon,
    }
    if (columns := ActionColumns.of(features)) != ActionColumns():
        needed["action"] = columns.to_dict()
    config, sources = model_values(model, needed, options, features.words)
    bundle = PolicyBundle(
        model=model,
        model_config=config,
        processor=processor,
        contract=contract.text,
        training={**notes, **({"published": sources} if sources else {})},
    )
    return bundle, sources


def _continue_from(
    folder: Path, dataset: Demonstrations, bundle: PolicyBundle, options: Mapping[str, Any]
) -> tuple[VlaModel, PolicyBundle]:
    """Return the network of a checkpoint, ready to learn, and the bundle with its processor.

    Backbones that `options` name take the place of those that it has; see `swap_backbones`.

    Raises:
        VlaError: when the data set teaches words that the checkpoint has no place for, or has other features.
    """
    network, before = load_checkpoint(folder, torch.device("cpu"))
    if missing := set(dataset.taught) - set(before.words):
        raise VlaError(f"{folder} has no place for the taught words {sorted(missing)}; teach others, or begin anew")
    network, values, swapped = swap_backbones(network, before, options)
    notes = {**bundle.training, **({"swapped": swapped} if swapped else {})}
    return network.trainable(), replace(
        bundle, model=before.model, model_config=values, processor=before.processor, training=notes
    )


def swap_backbones(
    network: VlaModel, bundle: PolicyBundle, options: Mapping[str, Any]
) -> tuple[VlaModel, Mapping[str, Any], dict[str, Any]]:
    """Put other backbones into a trained network; everything else that fits keeps its weights.

    Args:
        network: As trained.
        bundle: Of its checkpoint.
        options: Lines of its configuration; only those that name a backbone by a folder or a hub identifier count, and
            `freeze` beside them.

    Returns:
        The network, its configuration, and what was swapped: the sources, and the parts that begin anew because their
        sizes are others. Empty where nothing is.

    Raises:
        ContractError: when a backbone cannot be had.
    """
    model = model_class(bundle.model)
    named = {line: options[line] for line in model.BACKBONES if isinstance(options.get(line), str)}
    if not named:
        return network, bundle.model_config, {}
    frozen = {"freeze": options["freeze"]} if "freeze" in options else {}
    values, sources = name_sources(model, {**bundle.model_config, **named, **frozen})
    other: VlaModel = build_model(bundle.model, values)
    load_published(other, sources, bundle.words)
    parts = [other.backbones()[line] for line in sources]
    new = {id(value) for part in parts for value in part.tower.state_dict(keep_vars=True).values()}
    new |= {id(value) for part in parts if part.owner is not None for value in part.owner.buffers()}
    weights, anew = network.state_dict(), []
    with torch.no_grad():
        for name, value in other.state_dict(keep_vars=True).items():
            if id(value) in new:
                continue
            if name in weights and weights[name].shape == value.shape:
                value.copy_(weights[name])
            else:
                anew.append(name)
    return other, values, {**sources, "anew": anew}
