"""The one way from observations to tensors, and from what a network says to actions.

Data sets and the live policy call the same object, which is saved in the checkpoint and loaded from it.
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

SMALLEST_NORM = 1e-3
"""A quaternion that a network predicts is normalized from this norm on; a shorter one is left, and refused later."""


@dataclass(frozen=True)
class Statistics:
    """How numbers are normalized: `state` (state_width,), `action` (horizon, continuous columns)."""

    state: Normalizer
    action: Normalizer

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they stand in a checkpoint."""
        return {"state": self.state.to_dict(), "action": self.action.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Statistics:
        """Read what `to_dict` wrote."""
        return cls(Normalizer.from_dict(values["state"]), Normalizer.from_dict(values["action"]))


@dataclass(frozen=True)
class Processor:
    """Renames, resizes, normalizes and tokenizes, and turns columns back into actions.

    Attributes:
        features: What the policy takes and gives.
        statistics: Of the data that it was trained on; one for all data sets of an embodiment.
        tokenizer: Of instructions.
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
        """Return camera to (1, 3, height, width) float32, 0 to 1, on `device`, of one observation's images.

        Raises:
            ObservationError: for a camera that is missing, or an image that cannot be brought to size.
        """
        return {
            camera.name: image_tensor(fit_image(_of_camera(images, camera.source), camera)[None], device)
            for camera in self.features.cameras
        }

    def state_of(self, arms: Mapping[str, ArmState]) -> NDArray[np.float32]:
        """Return the state (state_width,), not normalized, in the precision in which it is stored.

        Raises:
            ObservationError: naming what was not measured.
        """
        return state_values(self.features.state, arms).astype(np.float32)

    def state(self, values: ArrayLike) -> Tensor:
        """Return states (..., state_width) normalized, float32."""
        stored = np.asarray(values, dtype=np.float32)
        return float_tensor(self.statistics.state.normalize(stored))

    def stack(self, frames: Sequence[tuple[Mapping[str, Tensor], Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the images and the state that a network takes, of frames of a history.

        Args:
            frames: As many as the features' history, the newest last: camera to (B, 3, height, width), as `images`
                returns it, and (B, state_width), as `state` does.

        Returns:
            Images by the names of `PolicyFeatures.network_cameras`, and the states behind each other, the newest last.
        """
        images = {
            frame_name(camera, back): image
            for back, (seen, _) in enumerate(reversed(frames))
            for camera, image in seen.items()
        }
        return images, torch.cat([state for _, state in frames], dim=-1)

    def tokens(self, instructions: Sequence[str]) -> Tensor:
        """Return instructions as (N, words) int64.

        Raises:
            InstructionError: for one that is too long.
        """
        length = self.features.words
        return torch.from_numpy(np.stack([self.tokenizer.encode(text, length) for text in instructions]))

    def places(self, values: ArrayLike) -> Tensor:
        """Return places (..., 3) m, base frame, normalized as the tool's position in the state is.

        So the difference of two normalized places is a way in meters, times a constant.

        Raises:
            ContractError: when the state does not hold the position of a tool.
        """
        columns = self.features.tool_columns
        if columns is None:
            raise ContractError(
                f"places need a tool's position in the state, it has {[group.name for group in self.features.state]}"
            )
        return float_tensor(self.statistics.state.columns(columns).normalize(values))

    # Actions.

    def targets(self, chunks: ArrayLike) -> tuple[Tensor, Tensor]:
        """Return what a network is taught to say about chunks (..., horizon, width).

        Returns:
            (..., horizon, continuous) normalized, and (..., horizon, binary), 0 off to 1 on; float32.
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
        """Return the chunk (horizon, width) that a network says.

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
            chunk[:, columns] /= np.maximum(norm, SMALLEST_NORM)
        return chunk

    # To the checkpoint and back.

    def with_statistics(self, statistics: Statistics) -> Processor:
        """Return the same processing with other statistics."""
        return replace(self, statistics=statistics)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they stand in a checkpoint."""
        return {
            "features": self.features.to_dict(),
            "statistics": self.statistics.to_dict(),
            "tokenizer": self.tokenizer.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Processor:
        """Read what `to_dict` wrote.

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
    """Return a float32 tensor of numbers."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
