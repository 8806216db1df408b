"""Cache of a frozen trunk's features for recorded images: the rest of a network then trains without the images.

A frozen trunk always returns the same features for an image, and encoding takes most of an update. The feature maps are
cached, one folder per trunk and dataset, with several variants of light and color (`variants`).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vla_ros.errors import VlaError
from vla_ros.models.contract import VlaModel
from vla_ros.training.datasets.image_store import StoredRows

if TYPE_CHECKING:
    from vla_ros.models.trunk_encoders import TrunkMaps
    from vla_ros.training.algorithms.behavioral_cloning import Demonstrations

BLOCK = 64
"""Number of steps encoded at a time."""

WHOLE = "complete"

_Data = TypeVar("_Data", bound="Demonstrations")


def with_trunk_features(dataset: _Data, network: VlaModel, cache: Path, variants: int, device: torch.device) -> _Data:
    """Return the steps with the features of the network's frozen trunk in place of their images.

    The steps are unchanged if the network has no frozen trunk, or if not all images are available at once.

    Args:
        dataset: Recorded steps.
        network: Network on `device`.
        cache: Folder of the feature maps; missing ones are computed.
        variants: Number of variants per image, each in another light.
        device: Device to compute on.

    Raises:
        VlaError: when `variants` is less than 1, or a feature file is damaged.
    """
    # Shapes by the dataset's cameras: a network with a history has one image per camera and frame.
    shapes = {camera: network.cached_shape(camera) for camera in dataset.cameras}
    if dataset.key is None or None in shapes.values():
        return dataset
    if variants < 1:
        raise VlaError(f"data.variants is {variants}, expected at least 1")
    digest = hashlib.sha256(f"{dataset.key} {variants} {_digest(network)}".encode()).hexdigest()[:16]
    place = cache / f"features_{digest}"
    if not (place / WHOLE).exists():
        _compute(dataset, network, place, variants, device)
    maps = {
        camera: StoredRows([(place / f"{camera}.features", dataset.count)], (variants, *shape), np.float16)
        for camera, shape in shapes.items()
        if shape is not None
    }

    def read(index: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> dict[str, Tensor]:
        chosen = np.array([int(rng.integers(variants)) for rng in generators])
        rows = np.arange(len(index))
        return {c: torch.from_numpy(one[index][rows, chosen].astype(np.float32)) for c, one in maps.items()}

    return dataset.with_images(read)  # type: ignore[return-value]


def _compute(dataset: _Data, network: VlaModel, place: Path, variants: int, device: torch.device) -> None:
    """Write the maps of all steps into a folder, which is marked only when they are complete."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    encoder = network.backbones()["vision"].owner
    files = {camera: (place / f"{camera}.features").open("wb") for camera in dataset.cameras}
    try:
        with torch.inference_mode(), tqdm(total=dataset.count, unit="step", desc="see") as bar:
            for first in range(0, dataset.count, BLOCK):
                steps = np.arange(first, min(first + BLOCK, dataset.count))
                seen = [_see(dataset, encoder, steps, variant, device) for variant in range(variants)]
                for camera, file in files.items():
                    file.write(np.stack([one[camera] for one in seen], axis=1).tobytes())
                bar.update(len(steps))
    finally:
        for file in files.values():
            file.close()
    (place / WHOLE).touch()


def _see(
    dataset: _Data, encoder: TrunkMaps, steps: NDArray[np.int64], variant: int, device: torch.device
) -> dict[str, NDArray[np.float16]]:
    """Return the maps (B, C, h', w') of one variant of the steps, by camera."""
    images = dataset.images(steps, [np.random.default_rng([variant, int(step)]) for step in steps])
    maps = {camera: encoder.map(image.to(device)) for camera, image in images.items()}
    return {camera: one.half().cpu().contiguous().numpy() for camera, one in maps.items()}


def _digest(network: VlaModel) -> str:
    """Return a short digest of the vision tower's weights."""
    digest = hashlib.sha256()
    for name, weights in network.backbones()["vision"].tower.state_dict().items():
        digest.update(name.encode() + weights.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
