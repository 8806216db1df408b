"""Crop, color, blur, noise and cutout on batches of images, randomized per image (kornia).

No image is flipped here: left must stay left (see `mirroring`). A crop moves objects in the image; turn it off
(`crop=1.0`) where a network is trained on pixel coordinates of objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import kornia.augmentation as kornia
import torch

from vla_ros.errors import ContractError


@dataclass(frozen=True)
class ImageSettings:
    """Strength and probability of each augmentation.

    Attributes:
        crop: Smallest fraction of the image area that is kept; 1 disables cropping.
        brightness: Largest relative change.
        contrast: Largest relative change.
        saturation: Largest relative change.
        hue: Largest hue shift, 0 to 0.5 of the color circle; keep it small where instructions name colors.
        blur: Probability that an image is blurred (3 x 3, up to 1.5 px).
        noise: Standard deviation of additive noise, in units of the full range.
        cutout: Probability that a rectangle of the image is blanked.
        cutout_area: Largest fraction of the image area that is blanked.
    """

    crop: float = 0.9
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02
    blur: float = 0.1
    noise: float = 0.02
    cutout: float = 0.1
    cutout_area: float = 0.1

    def __post_init__(self) -> None:
        ranges = {
            "crop": (0.05, 1.0),
            "brightness": (0.0, 1.0),
            "contrast": (0.0, 1.0),
            "saturation": (0.0, 1.0),
            "hue": (0.0, 0.5),
            "blur": (0.0, 1.0),
            "noise": (0.0, 1.0),
            "cutout": (0.0, 1.0),
            "cutout_area": (0.021, 1.0),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ContractError(f"image augmentation: {name} is {getattr(self, name)}, expected {low} to {high}")


class ImageAugmentation:
    """Augments batches deterministically per seed; leaves the global random state unchanged."""

    def __init__(self, settings: ImageSettings) -> None:
        """Store the settings; an augmentation whose setting is 0 is skipped."""
        self.settings = settings

    def __call__(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        """Return the augmented batch.

        Args:
            images: (batch, 3, height, width) float, 0 to 1.
            seed: Determines every random choice.

        Returns:
            The same shape, dtype and range.

        Raises:
            ContractError: when the batch has another shape, dtype or range.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ContractError(f"images are {tuple(images.shape)} {images.dtype}, expected (batch, 3, h, w) float")
        if not (images.min() >= 0.0 and images.max() <= 1.0):
            raise ContractError(f"images run from {images.min():.3f} to {images.max():.3f}, expected 0 to 1")
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            steps: list[Any] = self._changes(images)  # kornia takes all modules, by its annotations some
            changes = kornia.AugmentationSequential(*steps, data_keys=["input"], same_on_batch=False)
            augmented: torch.Tensor = changes(images).clamp(0.0, 1.0)
            return augmented

    def _changes(self, images: torch.Tensor) -> list[torch.nn.Module]:
        settings, size = self.settings, (images.shape[2], images.shape[3])
        ratio = size[1] / size[0]
        changes: list[torch.nn.Module] = []
        if settings.crop < 1.0:
            changes.append(kornia.RandomResizedCrop(size, (settings.crop, 1.0), (0.95 * ratio, 1.05 * ratio)))
        colour = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
        if any(colour):
            changes.append(kornia.ColorJitter(*colour, p=1.0))
        if settings.blur:
            changes.append(kornia.RandomGaussianBlur((3, 3), (0.1, 1.5), p=settings.blur))
        if settings.noise:
            changes.append(kornia.RandomGaussianNoise(0.0, settings.noise, p=1.0))
        if settings.cutout:
            changes.append(kornia.RandomErasing((0.02, settings.cutout_area), (0.3, 3.3), p=settings.cutout))
        return changes or [torch.nn.Identity()]
