"""Decodes stored images to the 8-bit RGB of a step; rejects everything else."""

from __future__ import annotations

import cv2
import numpy as np

from vla_ros.data.errors import DamagedDataError, DataError
from vla_ros.types import ImageArray


def decode_image(content: bytes, where: str) -> ImageArray:
    """Decode a PNG, JPEG etc. to (height, width, 3) uint8 RGB; gray becomes RGB, an alpha channel is dropped.

    Args:
        content: The encoded image.
        where: Its location, for error messages.

    Raises:
        DamagedDataError: when it cannot be decoded.
        DataError: when it has more than 8 bits per channel: depth, or more than a step's camera image can hold.
    """
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR_RGB
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error:
        image = None
    if image is None:
        raise DamagedDataError(f"{where} holds an image that cannot be decoded ({len(content)} bytes)")
    if image.dtype != np.uint8:
        raise DataError(
            f"{where} holds an image of {image.dtype}, expected 8 bits a channel: a depth image is no camera of a "
            "step, and 16-bit color would lose half of its bits; leave it out, or convert it to 8 bits"
        )
    return np.asarray(image)
