"""Crop, colour, blur, noise and cut-out on whole batches of pictures, each picture with chances of its own (kornia).

No picture is flipped here: what is left must stay left (see `mirroring`). A crop moves things in the picture; where a
network is told pixels of things, leave it out (`crop=1.0`).
"""

from __future__ import annotations

from dataclasses import dataclass

import kornia.augmentation as kornia
import torch

from vla_ros.errors import ContractError


@dataclass(frozen=True)
class ImageSettings:
    """How much of each change.

    Attributes:
        crop: Smallest share of the area that is kept; 1 keeps all.
        brightness: Largest relative change.
        contrast: Largest relative change.
        saturation: Largest relative change.
        hue: Largest turn of the colour circle, 0 to 0.5: keep it small where colours are named.
        blur: Chance that a picture is blurred (3 x 3, up to 1.5 px).
        noise: Standard deviation of additive noise, in units of the full range.
        cutout: Chance that a rectangle of a picture is blanked.
        cutout_area: Largest share of the picture that it takes.
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
        ranges = {"crop": (0.05, 1.0), "brightness": (0.0, 1.0), "contrast": (0.0, 1.0), "saturation": (0.0, 1.0),
                  "hue": (0.0, 0.5), "blur": (0.0, 1.0), "noise": (0.0, 1.0), "cutout": (0.0, 1.0),
                  "cutout_area": (0.021, 1.0)}  # fmt: skip
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ContractError(f"image augmentation: {name} is {getattr(self, name)}, expected {low} to {high}")


class ImageAugmentation:
    """Changes batches; a seed always gives the same changes, and the global random state stays as it was."""

    def __init__(self, settings: ImageSettings) -> None:
        """Prepare the changes that `settings` ask for; a change of size 0 is left out."""
        self.settings = settings

    def __call__(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        """Return the batch, changed.

        Args:
            images: (batch, 3, height, width) float, 0 to 1.
            seed: Decides the changes.

        Returns:
            The same shape, type and range.

        Raises:
            ContractError: when the batch has another shape, type or range.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ContractError(f"images are {tuple(images.shape)} {images.dtype}, expected (batch, 3, h, w) float")
        if not (images.min() >= 0.0 and images.max() <= 1.0):
            raise ContractError(f"images run from {images.min():.3f} to {images.max():.3f}, expected 0 to 1")
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            changes = kornia.AugmentationSequential(*self._changes(images), data_keys=["input"], same_on_batch=False)
            return changes(images).clamp(0.0, 1.0)

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
