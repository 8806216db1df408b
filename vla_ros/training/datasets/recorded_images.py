"""Image augmentation of `data.augmentation.images`, drawn for each row by its own generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.data.augmentation.images import ImageAugmentation, ImageSettings
from vla_ros.processing.images import image_tensor


class PerImageAugmentation:
    """Augments each image independently, so that a row is the same in any batch and process."""

    def __init__(self, settings: ImageSettings) -> None:
        """Prepare the augmentation."""
        self._change = ImageAugmentation(settings)

    def __call__(self, images: NDArray[np.uint8], generators: Sequence[np.random.Generator]) -> torch.Tensor:
        """Augment images (B, h, w, 3), one generator each; return (B, 3, h, w) float 0 to 1."""
        tensor = image_tensor(images)
        changed = [
            self._change(image[None], int(rng.integers(2**31))) for image, rng in zip(tensor, generators, strict=True)
        ]
        return torch.cat(changed)
