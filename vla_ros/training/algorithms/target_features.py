"""Cache of a vision encoder's target features for recorded steps: the action head then trains without images.

Encoding images takes most of an update. Once the vision encoder is trained, its features for every instruction of every
step fit on the disk, with several variants of light and color, and a step costs a twentieth (on a CPU).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vla_ros.errors import VlaError
from vla_ros.models.batch import ModelTarget
from vla_ros.models.layers.eyes import TargetFeatures
from vla_ros.models.networks.compositional import CONCEPTS, CompositionalModel
from vla_ros.training.datasets.concepts import concept_classes
from vla_ros.training.datasets.image_store import StoredRows, varied
from vla_ros.training.datasets.tabletop import MAX_INSTRUCTIONS, TabletopDataset

ASKED = MAX_INSTRUCTIONS + 1
"""Instructions per step: all that it is labeled with, repeated if they are few, and one infeasible instruction."""

BLOCK = 64
"""Number of steps encoded at a time."""

WHOLE = "complete"


@dataclass(frozen=True)
class TargetFeatureBatch:
    """Target features by camera, state (B, S), and the targets of the action head."""

    features: Mapping[str, TargetFeatures]
    state: Tensor
    target: ModelTarget


class TargetFeatureDataset:
    """Target features of all steps of a dataset."""

    def __init__(
        self, dataset: TabletopDataset, network: CompositionalModel, variants: int, device: torch.device
    ) -> None:
        """Compute the features that this encoder has not computed yet; they are stored next to the images.

        Args:
            dataset: Recorded steps, with the network's processor.
            network: Network with the vision encoder.
            variants: Number of variants per image, each with another light and another infeasible instruction.
            device: Device to compute on.

        Raises:
            VlaError: when `variants` is less than 1, or a feature file is damaged.
        """
        if variants < 1:
            raise VlaError(f"{variants} variants of each image, expected at least one")
        self._dataset, self._variants = dataset, variants
        self.count = dataset.count
        commands = [dataset.commands(step) for step in range(self.count)]
        self._columns = np.array([np.arange(MAX_INSTRUCTIONS) % len(one) for one in commands])
        self._classes = np.array(
            [[concept_classes(one[k]) for k in columns] for one, columns in zip(commands, self._columns, strict=True)],
            np.uint8,
        )
        self._width = network.config.channels // 2 + 4
        self._free = 2 * network.config.free_points
        folder = f"glances_{_eyes(network)}_{variants}"
        begin = 0
        for place, count in zip(dataset.places, dataset.counts, strict=True):
            if count and not (place / folder / WHOLE).exists():
                self._look(network.to(device).eval(), place / folder, begin, count, device)
            begin += count
        there = [(p / folder, n) for p, n in zip(dataset.places, dataset.counts, strict=True) if n]
        row = (variants, 2 * ASKED * self._width + self._free)
        self._features = {
            c: StoredRows([(p / f"{c}.glances", n) for p, n in there], row, np.float16) for c in dataset.cameras
        }
        self._absent = StoredRows([(p / "absent", n) for p, n in there], (variants, len(CONCEPTS)), np.uint8)

    def _look(self, network: CompositionalModel, place: Path, begin: int, count: int, device: torch.device) -> None:
        """Write the features of `count` steps, starting with step `begin`."""
        place.mkdir(parents=True, exist_ok=True)
        cameras = self._dataset.cameras
        files = {camera: (place / f"{camera}.glances").open("wb") for camera in cameras}
        with (place / "absent").open("wb") as absent, tqdm(total=count, unit="step", desc="look") as bar:
            for first in range(begin, begin + count, BLOCK):
                steps = np.arange(first, min(first + BLOCK, begin + count))
                features, vain = zip(
                    *(self._glance(network, steps, begin, v, device) for v in range(self._variants)), strict=True
                )
                for camera in cameras:
                    files[camera].write(np.stack([one[camera] for one in features], axis=1).tobytes())
                absent.write(np.stack(vain, axis=1).tobytes())
                bar.update(len(steps))
        for file in files.values():
            file.close()
        (place / WHOLE).touch()

    def _glance(
        self, network: CompositionalModel, steps: NDArray[np.int64], begin: int, variant: int, device: torch.device
    ) -> tuple[dict[str, NDArray[np.float16]], NDArray[np.uint8]]:
        """Return features (B, values) by camera, and classes (B, concepts) of the infeasible instructions."""
        generators = [np.random.default_rng([variant, step - begin]) for step in steps]
        vain = np.array(
            [concept_classes(self._dataset.absent(s, g)) for s, g in zip(steps, generators, strict=True)], np.uint8
        )
        images = {c: varied(self._dataset.image_stores[c][steps], generators).to(device) for c in self._dataset.cameras}
        with torch.inference_mode():
            seen = network.look(images, {n: t.to(device) for n, t in self._concepts(steps, vain).items()})
        flat = {
            camera: torch.cat([one.thing.flatten(1), one.goal.flatten(1), one.free], dim=1).half().cpu().numpy()
            for camera, one in seen.items()
        }
        return flat, vain

    def _concepts(self, steps: NDArray[np.int64], vain: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Return the classes (B, ASKED) of each concept."""
        table = np.concatenate([self._classes[steps], vain[:, None]], axis=1).astype(np.int64)
        return {name: torch.from_numpy(table[..., column]) for column, name in enumerate(CONCEPTS)}

    def rows(self, generators: Sequence[np.random.Generator], update: int) -> TargetFeatureBatch:
        """Return one step per generator, in a random variant, with all its instructions."""
        steps = self._dataset.draw(generators)
        variant = np.array([int(rng.integers(self._variants)) for rng in generators])
        each = np.arange(len(steps))
        concepts = self._concepts(steps, self._absent[steps][each, variant])
        return TargetFeatureBatch(
            {camera: self._unfold(rows[steps][each, variant]) for camera, rows in self._features.items()},
            self._dataset.states(steps),
            self._dataset.targets(steps, self._columns[steps], concepts),
        )

    def _unfold(self, flat: NDArray[np.float16]) -> TargetFeatures:
        values, size = torch.from_numpy(flat.astype(np.float32)), ASKED * self._width
        shape = (len(flat), ASKED, self._width)
        return TargetFeatures(
            values[:, :size].view(shape), values[:, size : 2 * size].view(shape), values[:, 2 * size :]
        )


def decide(network: CompositionalModel, batch: TargetFeatureBatch) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of the action head."""
    return network.action_head_loss(batch.features, batch.state, batch.target)


def _eyes(network: CompositionalModel) -> str:
    """Return a short digest of the vision encoder's weights."""
    digest = hashlib.sha256()
    for name, weights in network.eyes.state_dict().items():
        digest.update(name.encode() + weights.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
