"""Camera images as network input tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ObservationError
from vla_ros.processing.features import CameraFeature, Fit
from vla_ros.types import ImageArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def fit_image(image: ImageArray, camera: CameraFeature) -> ImageArray:
    """Fit an image (h, w, 3) uint8 to the policy's input size, (height, width, 3).

    Raises:
        ObservationError: when it is not an RGB image, or its size is not allowed by the camera's `fit`.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ObservationError(
            f"camera '{camera.name}': got {image.shape} {image.dtype}, expected (height, width, 3) uint8"
        )
    height, width = image.shape[:2]
    if (height, width) == (camera.height, camera.width):
        return image
    if camera.fit is Fit.PAD:
        return _padded(image, camera)
    if camera.fit is Fit.SHRINK and (height * camera.width != width * camera.height or height < camera.height):
        raise ObservationError(
            f"camera '{camera.name}': the image is {height} x {width}, the policy sees {camera.height} x "
            f"{camera.width}; a larger one of the same shape is shrunk, nothing is cut, stretched or enlarged"
        )
    return _resized(image, camera.height, camera.width)


def _padded(image: ImageArray, camera: CameraFeature) -> ImageArray:
    height, width = image.shape[:2]
    scale = min(camera.height / height, camera.width / width)
    inner = (max(1, min(camera.height, round(height * scale))), max(1, min(camera.width, round(width * scale))))
    canvas = np.zeros((camera.height, camera.width, 3), np.uint8)
    top, left = (camera.height - inner[0]) // 2, (camera.width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = _resized(image, *inner)
    return canvas


def _resized(image: ImageArray, height: int, width: int) -> ImageArray:
    # Imported here because it loads OpenCV, which a policy does not need when its images already have the right size.
    from vla_ros.perception.geometry import resize_for_policy

    return resize_for_policy(image, height, width)


def image_tensor(images: NDArray[np.uint8], device: torch.device | None = None) -> Tensor:
    """Convert images (B, h, w, 3) uint8 to a tensor (B, 3, h, w) float32, 0 to 1, on `device`."""
    import torch  # imported here: a remote policy fits images without torch

    # Copy only if needed: an image may be a read-only view of a message.
    writeable = images if images.flags.writeable else images.copy()
    tensor = torch.from_numpy(np.ascontiguousarray(writeable)).to(device)  # transfer as uint8: a quarter of the bytes
    return tensor.permute(0, 3, 1, 2).float().div_(255.0)
