"""Coded images of data sets, as the 8-bit RGB that a step holds; nothing else is taken for it."""

from __future__ import annotations

import cv2
import numpy as np

from vla_ros.data.errors import DamagedDataError, DataError
from vla_ros.types import ImageArray


def decode_picture(content: bytes, where: str) -> ImageArray:
    """Return a PNG, JPEG or the like as (height, width, 3) uint8 RGB; gray becomes RGB, an alpha channel is dropped.

    Args:
        content: The coded image.
        where: Where it lies, for error messages.

    Raises:
        DamagedDataError: when it cannot be decoded.
        DataError: when it has more than 8 bits a channel: that is depth, or more than a camera image of a step holds.
    """
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR_RGB
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error:
        picture = None
    if picture is None:
        raise DamagedDataError(f"{where} holds an image that cannot be decoded ({len(content)} bytes)")
    if picture.dtype != np.uint8:
        raise DataError(
            f"{where} holds an image of {picture.dtype}, expected 8 bits a channel: a depth image is no camera of a "
            "step, and 16-bit color would lose half of its bits; leave it out, or convert it to 8 bits"
        )
    return np.asarray(picture)
