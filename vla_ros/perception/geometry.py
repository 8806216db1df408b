"""Image geometry: resizing of camera images to the policy's input size."""

from __future__ import annotations

import cv2
import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.types import ImageArray


def resize_for_policy(image: ImageArray, height: int, width: int) -> ImageArray:
    """Resize `image` (h, w, 3) uint8 to (height, width, 3) by area interpolation, which also antialiases.

    Data collection and the perception node both call it, so a policy sees the same pixels in both.

    Raises:
        ObservationError: when the input is not an RGB image or the size is not positive.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ObservationError(f"got an image {image.shape} {image.dtype}, expected (height, width, 3) uint8")
    if height < 1 or width < 1:
        raise ObservationError(f"cannot resize to {height} x {width}, expected positive sizes")
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
