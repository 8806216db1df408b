"""Converts observations to tensors, and network outputs to actions.

Datasets and the live policy use the same object, which is saved in the checkpoint and loaded from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vla_ros.errors import ContractError, ObservationError
from vla_ros.language.tokenizer import WordTokenizer
from vla_ros.processing.features import PolicyFeatures, frame_name
from vla_ros.processing.images import fit_image, image_tensor
from vla_ros.processing.normalizer import Normalizer
from vla_ros.processing.state import ArmState, state_values
from vla_ros.types import FloatArray, ImageArray

MIN_QUATERNION_NORM = 1e-3
"""Norm from which a predicted quaternion is normalized to unit length; a shorter one is rejected downstream."""


@dataclass(frozen=True)
class Statistics:
    """Normalizers of `state` (state_width,) and `action` (horizon, continuous columns)."""

    state: Normalizer
    action: Normalizer

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as stored in a checkpoint."""
        return {"state": self.state.to_dict(), "action": self.action.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Statistics:
        """Read the values written by `to_dict`."""
        return cls(Normalizer.from_dict(values["state"]), Normalizer.from_dict(values["action"]))


@dataclass(frozen=True)
class Processor:
    """Renames, resizes, normalizes and tokenizes; converts predicted columns back to actions.

    Attributes:
        features: Inputs and outputs of the policy.
        statistics: Statistics of its training data; the same for all datasets of an embodiment.
        tokenizer: Tokenizer of instructions.
    """

    features: PolicyFeatures
    statistics: Statistics
    tokenizer: WordTokenizer

    def __post_init__(self) -> None:
        features, statistics = self.features, self.statistics
        expected = {
            "state": ((features.state_width,), statistics.state.first.shape),
            "action": (
                (features.action.horizon, len(features.continuous_columns)),
                statistics.action.first.shape,
            ),
        }
        for name, (wanted, got) in expected.items():
            if wanted != got:
                raise ContractError(f"statistics of the {name} have shape {got}, the features need {wanted}")

    # Observations to tensors.

    def images(self, images: Mapping[str, ImageArray], device: torch.device | None = None) -> dict[str, Tensor]:
        """Return the images of one observation by camera, (1, 3, height, width) float32, 0 to 1, on `device`.

        Raises:
            ObservationError: for a missing camera, or an image that cannot be resized.
        """
        return {
            camera.name: image_tensor(fit_image(_of_camera(images, camera.source), camera)[None], device)
            for camera in self.features.cameras
        }

    def state_of(self, arms: Mapping[str, ArmState]) -> NDArray[np.float32]:
        """Return the state (state_width,), not normalized, in the precision of the stored data.

        Raises:
            ObservationError: naming what was not measured.
        """
        return state_values(self.features.state, arms).astype(np.float32)

    def state(self, values: ArrayLike) -> Tensor:
        """Normalize states (..., state_width) to float32."""
        stored = np.asarray(values, dtype=np.float32)
        return float_tensor(self.statistics.state.normalize(stored))

    def stack(self, frames: Sequence[tuple[Mapping[str, Tensor], Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the images and the state of the network's input for the frames of a history.

        Args:
            frames: As many as the features' history, the newest last: (B, 3, height, width) by camera, as returned by
                `images`, and (B, state_width), as returned by `state`.

        Returns:
            Images by the names of `PolicyFeatures.network_cameras`, and the concatenated states, the newest last.
        """
        images = {
            frame_name(camera, back): image
            for back, (seen, _) in enumerate(reversed(frames))
            for camera, image in seen.items()
        }
        return images, torch.cat([state for _, state in frames], dim=-1)

    def tokens(self, instructions: Sequence[str]) -> Tensor:
        """Tokenize instructions to (N, words) int64.

        Raises:
            InstructionError: for one that is too long.
        """
        length = self.features.words
        return torch.from_numpy(np.stack([self.tokenizer.encode(text, length) for text in instructions]))

    def places(self, values: ArrayLike) -> Tensor:
        """Normalize positions (..., 3) m, base frame, like the tool's position in the state.

        The difference of two normalized positions is therefore a scaled displacement in meters.

        Raises:
            ContractError: when the state lacks the position of a tool.
        """
        columns = self.features.tool_columns
        if columns is None:
            raise ContractError(
                f"places need a tool's position in the state, it has {[group.name for group in self.features.state]}"
            )
        return float_tensor(self.statistics.state.columns(columns).normalize(values))

    # Actions.

    def targets(self, chunks: ArrayLike) -> tuple[Tensor, Tensor]:
        """Return the network's targets for chunks (..., horizon, width).

        Returns:
            (..., horizon, continuous) normalized, and (..., horizon, binary), from 0 off to 1 on; float32.
        """
        values = np.asarray(chunks)
        features = self.features
        continuous = self.statistics.action.normalize(values[..., list(features.continuous_columns)])
        binary = values[..., list(features.binary_columns)]
        if binary.shape[-1]:
            off, on = np.array(features.binary_states).T
            binary = (binary - off) / (on - off)
        return float_tensor(continuous), float_tensor(binary)

    def actions(self, continuous: Tensor, binary: Tensor) -> FloatArray:
        """Return the chunk (horizon, width) predicted by a network.

        Args:
            continuous: (horizon, continuous columns), normalized.
            binary: (horizon, binary columns) logits of "on".
        """
        features = self.features
        said = continuous.detach().float().cpu().numpy()
        chunk = np.empty((len(said), features.action.width))
        chunk[:, list(features.continuous_columns)] = self.statistics.action.unnormalize(said)
        if features.binary_columns:
            off, on = np.array(features.binary_states).T
            chunk[:, list(features.binary_columns)] = np.where((binary.detach() > 0.0).cpu().numpy(), on, off)
        for columns in features.quaternion_columns:
            norm = np.linalg.norm(chunk[:, columns], axis=1, keepdims=True)
            chunk[:, columns] /= np.maximum(norm, MIN_QUATERNION_NORM)
        return chunk

    # Serialization.

    def with_statistics(self, statistics: Statistics) -> Processor:
        """Return a copy with other statistics."""
        return replace(self, statistics=statistics)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as stored in a checkpoint."""
        return {
            "features": self.features.to_dict(),
            "statistics": self.statistics.to_dict(),
            "tokenizer": self.tokenizer.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Processor:
        """Read the values written by `to_dict`.

        Raises:
            ContractError: when a part is missing or invalid.
        """
        try:
            return cls(
                PolicyFeatures.from_dict(values["features"]),
                Statistics.from_dict(values["statistics"]),
                WordTokenizer.from_dict(values["tokenizer"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"processor: {type(error).__name__}: {error}") from error


def _of_camera(images: Mapping[str, ImageArray], source: str) -> ImageArray:
    if source not in images:
        raise ObservationError(f"the policy needs camera '{source}', the observation has {[*images]}")
    return images[source]


def float_tensor(values: NDArray[Any]) -> Tensor:
    """Return the values as a float32 tensor."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
