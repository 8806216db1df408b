"""Rollouts of a policy as batches for the policy gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.data.episodes.demonstrations import Episode
from vla_ros.models.checkpoint import PolicyBundle
from vla_ros.models.contract import ModelInput
from vla_ros.processing.images import image_tensor
from vla_ros.training.algorithms.preferences import Experience
from vla_ros.training.datasets.pick import recorded_states


class ExperienceBatches:
    """Steps of policy rollouts, with the policy's own inputs."""

    def __init__(
        self,
        episodes: Sequence[Episode],
        sentences: Sequence[Sequence[str]],
        advantage: NDArray[np.float32],
        bundle: PolicyBundle,
        size: int,
        seed: int,
    ) -> None:
        """Load everything into memory.

        Args:
            episodes: Episodes with `driven`.
            sentences: Instruction of each step, per episode.
            advantage: Advantages of all steps of all episodes, concatenated.
            bundle: Bundle of the policy that drove.
            size: Batch size.
            seed: Seed of the batches.
        """
        self._size, self._seed = size, seed
        self._advantage = advantage
        processor = bundle.processor
        self._tokens = processor.tokens([sentence for rows in sentences for sentence in rows])
        cameras = [camera.name for camera in processor.features.cameras]
        self._images = {c: np.concatenate([e.arrays[f"image_{c}"] for e in episodes]) for c in cameras}
        states = np.concatenate([recorded_states(e.arrays) for e in episodes])
        self._states = processor.state(states)
        driven = np.concatenate([e.arrays["driven"] for e in episodes])
        self._explored = processor.targets(driven)[0][..., :3].mean(dim=1)

    def __len__(self) -> int:
        """Number of steps."""
        return len(self._advantage)

    def batch(self, update: int, part: int, parts: int) -> Experience:
        """Return one part of an update's batch."""
        rng = np.random.default_rng([self._seed, update])
        index = rng.integers(len(self), size=self._size)[part::parts]
        images = {camera: image_tensor(stored[index]) for camera, stored in self._images.items()}
        inputs = ModelInput(images, self._states[index], self._tokens[index][:, None])
        return Experience(inputs, self._explored[index], torch.from_numpy(self._advantage[index]))
