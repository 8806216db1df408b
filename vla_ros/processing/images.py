"""Camera images as the tensors that networks see."""

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
    """Return an image (h, w, 3) uint8 at the size of the policy, (height, width, 3).

    Raises:
        ObservationError: when it is no RGB image, or has a size that the camera's `fit` does not allow.
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
    # OpenCV comes with it, which a policy whose images have its size already does not need.
    from vla_ros.perception.geometry import resize_for_policy

    return resize_for_policy(image, height, width)


def image_tensor(images: NDArray[np.uint8], device: torch.device | None = None) -> Tensor:
    """Return images (B, h, w, 3) as (B, 3, h, w) float32, 0 to 1, on `device`."""
    import torch  # a remote policy fits images without it

    # A copy where it is needed, since an image may be a read-only view of a message.
    writeable = images if images.flags.writeable else images.copy()
    tensor = torch.from_numpy(np.ascontiguousarray(writeable)).to(device)  # as bytes: a quarter of the way
    return tensor.permute(0, 3, 1, 2).float().div_(255.0)
