"""Behavioral cloning: trains a network to predict the expert's actions."""

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
from vla_ros.training.provenance import bc_provenance, dataset_fingerprint
from vla_ros.training.records import HeldOutRecord, TrainingRecord
from vla_ros.training.trunk_features import with_trunk_features


class Demonstrations(Protocol):
    """Recorded steps and their metadata."""

    cameras: tuple[str, ...]
    count: int
    episodes: int
    episode_of: NDArray[np.int64]
    taught: tuple[str, ...]
    processor: Processor

    @property
    def groups(self) -> tuple[int, ...]:
        """Number of episodes of each data set."""
        ...

    @property
    def key(self) -> str | None:
        """Name of the images in a cache; None where they are not all there at a time."""
        ...

    def with_processor(self, processor: Processor) -> Demonstrations:
        """Return the same steps, converted to tensors by another processor."""
        ...

    def images(self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> Mapping[str, torch.Tensor]:
        """Return the images (B, 3, h, w) of steps, 0 to 1, each augmented by its own generator."""
        ...

    def with_images(self, read: ReadImages) -> Demonstrations:
        """Return the same steps with other tensors in place of their images."""
        ...

    def without(self, episodes: Collection[int]) -> Demonstrations:
        """Return the same steps, with `rows` drawing only from the other episodes."""
        ...

    def steps(
        self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]
    ) -> tuple[ModelInput, ModelTarget]:
        """Return the steps with these indices, each randomized by its own generator."""
        ...

    def rows(self, generators: Sequence[np.random.Generator], update: int) -> tuple[ModelInput, ModelTarget]:
        """Return one row per generator."""
        ...


@dataclass(frozen=True)
class BcOptions:
    """Options of training a network on demonstrations.

    Attributes:
        loop: Options of the loop.
        batch: Number of dataset steps per update.
        seed: Seed of weights and batches.
        model_options: Size of the network, lines of its configuration and published backbones; see `model_values`.
        adaptation: Fine-tuning that leaves most weights unchanged; needs `start_from`.
        reinit_modules: Prefixes of the parameter names that are reinitialized; the rest keeps its weights.
        start_from: Checkpoint to start from; its processor is kept, so that it still fits.
        resume: Whether to continue from the state in the checkpoint's folder.
        notes: Notes about the training in the checkpoint.
        held_out: How the network is evaluated during training; by default it learns from all episodes.
        play: Runs a few scenes when `held_out` asks for it.
        history: Records of the same training before it was interrupted.
        cache: Folder for the features that a frozen trunk computes from the images; None: recomputed in every update.
        variants: Number of augmented variants per image in the cache.
    """

    loop: LoopOptions
    batch: int
    seed: int = 0
    model_options: Mapping[str, Any] = field(default_factory=dict)
    adaptation: Adaptation = field(default_factory=Adaptation)
    reinit_modules: Sequence[str] = ()
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
    options: BcOptions,
    device: torch.device,
    report: Callable[[TrainingRecord], None] | None = None,
    objective: Objective | None = None,
) -> float:
    """Train the network called `model` and write its checkpoint to `out`; return the last loss.

    Args:
        dataset: Demonstrations.
        contract: Robot contract, stored in the checkpoint.
        model: Name in the table of models.
        out: Folder of the checkpoint and of the state to resume from.
        options: Training options.
        device: Device to compute on.
        report: Called with a record at intervals.
        objective: Loss to minimize; by default the network's own.

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
        if not (options.resume and has_state(out)):  # a saved state has its own weights and word vectors
            _give_what_is_known(network, sources, bundle.words)
    layers = adapt(network, options.adaptation)
    if options.reinit_modules:
        _reinit_modules(network, build_model(model, bundle.model_config), options.reinit_modules)
    loop = TrainingLoop(network, options.loop, device, objective, bc_provenance(options, data, bundle))
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
    """Options of a training that is evaluated while it runs."""

    @property
    def held_out(self) -> HeldOutOptions:
        """How it is measured."""
        ...

    @property
    def play(self) -> Play | None:
        """What plays a few scenes."""
        ...

    @property
    def history(self) -> Sequence[TrainingRecord]:
        """Records of the same training before it was interrupted."""
        ...


def watch_training(
    dataset: Demonstrations,
    options: Measured,
    device: torch.device,
    out: Path,
    save: Callable[[Path, VlaModel, Mapping[str, Any]], None],
    step: int,
) -> HeldOut:
    """Return the evaluator of a training at update `step`; it keeps the best network in `out`.

    Args:
        dataset: All steps, as the network reads them.
        options: Options of the evaluation.
        device: Device to compute on.
        out: Folder of the checkpoint.
        save: Writes a checkpoint to a folder, with the measurements among its notes.
        step: Current update of the training; more than 0 when it is resumed.
    """

    def keep(network: VlaModel, update: int, record: HeldOutRecord) -> None:
        save(out, network, {"kept_update": update, "held_out": asdict(record)})

    play = None if options.play is None else play_saved(lambda folder, one: save(folder, one, {}), options.play, out)
    watch = HeldOut(dataset, options.held_out, device, keep, play)
    watch.go_on_from([record for record in options.history if record.step <= step])
    return watch


def _reinit_modules(network: VlaModel, fresh: VlaModel, parts: Sequence[str]) -> None:
    """Reinitialize some modules with the weights of a fresh network.

    Raises:
        VlaError: when the network has no such module.
    """
    weights = dict(network.named_parameters())
    for part in parts:
        if not any(belongs(name, part) for name in weights):
            raise VlaError(f"the network has no part '{part}', only {sorted({name.split('.')[0] for name in weights})}")
    for name, begun in fresh.named_parameters():
        if any(belongs(name, part) for part in parts):
            weights[name].data.copy_(begun.data)


def _give_what_is_known(network: Any, sources: Mapping[str, str], words: Sequence[str]) -> None:  # noqa: ANN401 (any network)
    """Load a new network's published weights, and its word vectors if it takes them."""
    if sources:
        load_published(network, sources, words)
    if hasattr(network, "set_word_vectors"):
        network.set_word_vectors(describe_words(words, network.config.word_width))


def finished(
    network: VlaModel, bundle: PolicyBundle, adaptation: Adaptation, layers: Sequence[str]
) -> tuple[VlaModel, PolicyBundle]:
    """Return the contents of the checkpoint: low-rank updates merged, adapters named."""
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
    """Return the bundle of a checkpoint, without weights, and the sources of published weights by their lines."""
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
    """Return the network of a checkpoint in training mode, and the bundle with its processor.

    Backbones named in `options` replace those of the network; see `swap_backbones`.

    Raises:
        VlaError: when the dataset has words that are not in the checkpoint's vocabulary, or other features.
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
    """Replace backbones of a trained network; everything else that fits keeps its weights.

    Args:
        network: Trained network.
        bundle: Bundle of its checkpoint.
        options: Lines of its configuration; only `freeze` and those that name a backbone by a folder or a hub
            identifier are used.

    Returns:
        The network, its configuration, and the changes: the sources, and the weights that are reinitialized because
        their shapes differ; empty without changes.

    Raises:
        ContractError: when a backbone cannot be loaded.
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
    weights, reinitialized = network.state_dict(), []
    with torch.no_grad():
        for name, value in other.state_dict(keep_vars=True).items():
            if id(value) in new:
                continue
            if name in weights and weights[name].shape == value.shape:
                value.copy_(weights[name])
            else:
                reinitialized.append(name)
    return other, values, {**sources, "anew": reinitialized}  # the key of saved training states
