"""Trains a trunk on labeled views of simulated scenes, and evaluates it on held-out scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.envs.tabletop.scene import HELD_OUT_PAIRS
from vla_ros.errors import VlaError
from vla_ros.language.commands import Act, Command
from vla_ros.language.lexicon import COLOURS, OBJECTS
from vla_ros.language.phrasing import say, taught_words
from vla_ros.language.tokenizer import WordTokenizer
from vla_ros.models.contract import VlaModel
from vla_ros.models.trunk import Trunk, TrunkConfig, TrunkDescription, load_trunk, save_trunk, thing_names
from vla_ros.training.algorithms.behavioral_cloning import BcOptions
from vla_ros.training.datasets.concepts import COLOUR_NAMES, KIND_NAMES
from vla_ros.training.datasets.source import SeededBatches
from vla_ros.training.datasets.tabletop import SENTENCE_LENGTH, TabletopDataset, trainable_pairs
from vla_ros.training.held_out import HeldOut, held_out_episodes
from vla_ros.training.loop import TrainingLoop
from vla_ros.training.loop_options import HeldOutOptions
from vla_ros.training.provenance import dataset_fingerprint
from vla_ros.training.records import HeldOutRecord, TrainingRecord

FILLERS = tuple(f"filler{number}" for number in range(20))
"""Words outside the trunk's vocabulary: it reads these, like any word it was not taught, as "unknown"."""

RESAMPLES = 1000
"""Number of bootstrap resamples."""

MAX_VIEWS = 2000
"""Maximum number of held-out views from which the metrics of a trunk are computed."""


def trunk_dataset(folders: Iterable[Path], cameras: Iterable[str], cache: Path) -> TabletopDataset:
    """Return views with instructions in the trunk's vocabulary, mixed with words outside it."""
    taught = taught_words()
    dataset = TabletopDataset(folders, cameras, [*taught, *FILLERS], trainable_pairs(HELD_OUT_PAIRS), cache)
    return dataset.with_processor(replace(dataset.processor, tokenizer=WordTokenizer(taught)))


def train_trunk(
    dataset: TabletopDataset,
    out: Path,
    options: BcOptions,
    device: torch.device,
    report: Callable[[TrainingRecord], None] | None = None,
) -> float:
    """Train a trunk and write it to `out`; return the last loss.

    Args:
        dataset: Dataset from `trunk_dataset`.
        out: Folder of the trunk and of the state to resume from.
        options: Options of the training; `model_options` are lines of `TrunkConfig`. `start_from`, `play`: unused.
        device: Device to compute on.
        report: Called with a record at intervals.

    Raises:
        VlaError: when the state to resume from belongs to other data or options, naming the lines.
    """
    torch.manual_seed(options.seed)
    tokenizer = dataset.processor.tokenizer
    config = TrunkConfig.from_dict(
        {
            "vocabulary": tokenizer.size,
            "words": SENTENCE_LENGTH,
            "kinds": len(KIND_NAMES),
            **options.model_options,
        }
    )
    held = held_out_episodes(dataset.groups, options.held_out.fraction)
    belongs_to = {
        "data": dataset_fingerprint(dataset) | {"held_out": len(held)},
        "trunk": asdict(config),
        "batch": options.batch,
        "seed": options.seed,
    }
    loop = TrainingLoop(Trunk(config), options.loop, device, belongs_to=belongs_to)  # type: ignore[arg-type]
    if options.resume:
        loop.resume(out)

    def save(network: Trunk, measured: Mapping[str, Any]) -> None:
        save_trunk(out, network, TrunkDescription(config, tokenizer.words, {**options.notes, **measured}))

    def keep(network: VlaModel, update: int, record: HeldOutRecord) -> None:
        save(network, {"kept_update": update, "held_out": asdict(record)})  # type: ignore[arg-type]

    watch = TrunkHeldOut(dataset, options.held_out, device, keep)
    watch.go_on_from([record for record in options.history if record.step <= loop.step])
    source = SeededBatches(dataset.without(held) if held else dataset, options.batch, options.seed)
    loss = loop.run(source, out, report, held_out=watch)
    if loop.is_main and not watch.kept:
        save(loop.averaged, {"updates": loop.step})  # type: ignore[arg-type]
    return loss


@dataclass(frozen=True)
class Probe:
    """Predictions of a trunk for one camera's views.

    Attributes:
        distance: (n,) from the predicted to the true position of the named object, px.
        place: (n, 2) true position of the object, px.
        right: (n,) whether the patch at the object matches its name better than any other.
        seen: (m,) whether the trunk is right about the named object being in the image or not.
        there: (m,) whether it is in the image.
        rows: (n,) index of the view, and `seen_rows` (m,).
    """

    distance: NDArray[np.float64]
    place: NDArray[np.float64]
    right: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    there: NDArray[np.bool_]
    rows: NDArray[np.int64]
    seen_rows: NDArray[np.int64]


class TrunkHeldOut(HeldOut):
    """Evaluates a trunk: how far from the named object it looks, and how often it confuses it with another."""

    def measure(self, network: VlaModel) -> HeldOutRecord:
        """Return the loss, the errors, and those of guessing the mean position, any name, the likelier answer."""
        trunk: Trunk = network  # type: ignore[assignment]
        told: dict[str, float] = {}
        losses, total = 0.0, len(self._index)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            for inputs, target, size in self._batches(self._index):
                loss, parts = trunk.compute_loss(inputs, target)
                losses += size * float(loss)
                told = {name: told.get(name, 0.0) + size * value for name, value in parts.items()}
        errors: dict[str, float] = {}
        guessed: dict[str, float] = {}
        for camera, probe in probe_trunk(trunk, self, self._index).items():
            middle = np.linalg.norm(probe.place - probe.place.mean(axis=0), axis=1)
            there = float(probe.there.mean())
            errors |= {
                f"{camera} place [px]": float(probe.distance.mean()),
                f"{camera} name [wrong]": 1.0 - float(probe.right.mean()),
                f"{camera} seen [wrong]": 1.0 - float(probe.seen.mean()),
            }
            guessed |= {
                f"{camera} place [px]": float(middle.mean()),
                f"{camera} name [wrong]": 1.0 - 1.0 / NAMES,
                f"{camera} seen [wrong]": min(there, 1.0 - there),
            }
        ratios = [errors[name] / guess for name, guess in guessed.items() if guess > 0.0]
        return HeldOutRecord(
            losses / total,
            {name: value / total for name, value in told.items()},
            errors,
            guessed,
            float(np.mean(ratios)),
        )

    def batches(self, index: NDArray[np.int64]) -> Iterator[tuple[Any, Any, int]]:
        """Yield views on the device, a block at a time."""
        return self._batches(index)

    @property
    def tokens_of_names(self) -> tuple[Tensor, Tensor]:
        """Tokens (NAMES, T) of a plain instruction for each object that can be picked up, and its name's number."""
        pairs = [(colour, kind) for colour in COLOURS for kind in OBJECTS]
        sentences = [say(Command(Act.PICK, pair)) for pair in pairs]
        numbers = [1000 * COLOUR_NAMES.index(colour) + KIND_NAMES.index(kind) for colour, kind in pairs]
        return self._dataset.processor.tokens(sentences).to(self._device), torch.tensor(numbers, device=self._device)


NAMES = len(COLOURS) * len(OBJECTS)
"""Number of objects that can be picked up, by color and kind."""


@torch.no_grad()
def probe_trunk(trunk: Trunk, views: TrunkHeldOut, index: NDArray[np.int64]) -> dict[str, Probe]:
    """Return a trunk's predictions for views by camera, with an instruction for each object."""
    tokens, numbers = views.tokens_of_names
    names = trunk.text(tokens)[2][:, 0]
    found: dict[str, list[tuple[NDArray[Any], ...]]] = {}
    done = 0
    for inputs, target, size in views.batches(index):
        questions, name = trunk.questions(inputs.tokens), thing_names(target)[..., 0]
        alone = target.concepts["goal_kind"] >= trunk.config.kinds
        for camera, image in inputs.images.items():
            features = trunk.vision(image)
            pixels = torch.where(target.target_visible[..., None] > 0.5, target.pixels[camera], torch.nan)
            there = torch.isfinite(pixels).all(dim=-1)
            scale = pixels.new_tensor([image.shape[-1], image.shape[-2]])
            output = trunk.vision.ground(features, questions)
            places = output.places.unflatten(0, there.shape)[..., 0, :]
            distance = ((places - pixels) * scale).norm(dim=-1)[there]
            at = trunk.at(features, pixels[:, :, None])[:, :, 0][there]
            right = numbers[(at @ names.T).argmax(dim=-1)] == name[there]
            asked = there | alone | (target.target_visible > 0.5)
            seen = (output.seen.unflatten(0, there.shape)[..., 0] > 0.5) == there
            rows = (done + torch.arange(size, device=there.device))[:, None].expand_as(there)
            columns = (distance, (pixels * scale)[there], right, seen[asked], there[asked], rows[there], rows[asked])
            found.setdefault(camera, []).append(tuple(column.cpu().numpy() for column in columns))
        done += size
    probes = {
        camera: Probe(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        for camera, parts in found.items()
    }
    return {
        camera: probe for camera, probe in probes.items() if len(probe.distance)
    }  # a camera that saw no object has no results


def trunk_figures(
    folder: Path, dataset: TabletopDataset, fraction: float, device: torch.device
) -> dict[str, tuple[float, float, float]]:
    """Return the metrics of a saved trunk on held-out scenes, each with its 95 % confidence interval over scenes.

    Raises:
        VlaError: when no scene is held out.
    """
    held = held_out_episodes(dataset.groups, fraction)
    if not held:
        raise VlaError(
            f"no scene of {dataset.episodes} is held out, a trunk has no figures: collect more, or set held_out"
        )
    trunk, _ = load_trunk(folder)
    inside = np.flatnonzero(np.isin(dataset.episode_of, held))
    index = inside[np.linspace(0, len(inside) - 1, min(MAX_VIEWS, len(inside))).astype(np.int64)]
    views = TrunkHeldOut(dataset, HeldOutOptions(fraction=fraction), device, lambda *_: None)
    figures = {}
    for camera, probe in probe_trunk(trunk.to(device), views, index).items():
        scenes, asked = dataset.episode_of[index][probe.rows], dataset.episode_of[index][probe.seen_rows]
        figures[f"{camera}: the right one of {NAMES} names"] = over_scenes(probe.right.astype(float), scenes, np.mean)
        figures[f"{camera}: rightly seen or not seen"] = over_scenes(probe.seen.astype(float), asked, np.mean)
        figures[f"{camera}: off the thing, median px"] = over_scenes(probe.distance, scenes, np.median)
        figures[f"{camera}: off the thing by at most 6 px"] = over_scenes(
            (probe.distance <= 6.0).astype(float), scenes, np.mean
        )
    return figures


def over_scenes(
    values: NDArray[np.float64], scenes: NDArray[np.int64], figure: Callable[[Any], Any]
) -> tuple[float, float, float]:
    """Return `figure` of values (n,), with its 95 % interval by a bootstrap over scenes (n,), whose views are alike."""
    groups = [values[scenes == scene] for scene in np.unique(scenes)]
    rng = np.random.default_rng(0)
    drawn = [
        figure(np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))]))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(figure(values)), float(low), float(high)
