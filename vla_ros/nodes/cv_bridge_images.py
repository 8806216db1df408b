"""Images in encodings that the zero-copy path does not know, by ROS 2's cv_bridge where it is installed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import Image

from vla_ros.errors import ObservationError
from vla_ros.types import ImageArray


@functools.cache
def _converter() -> Callable[[Image, str], Any] | None:
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    return CvBridge().imgmsg_to_cv2


def decode_with_cv_bridge(message: Image) -> ImageArray | None:
    """Return the picture as (height, width, 3) uint8 RGB, read-only; None where cv_bridge is not installed.

    Raises:
        ObservationError: when cv_bridge cannot convert it either, or returns something else than it promises.
    """
    convert = _converter()
    if convert is None:
        return None
    if message.height < 1 or message.width < 1 or len(message.data) != message.height * message.step:
        raise ObservationError(
            f"image of {message.width} x {message.height} px has {len(message.data)} bytes, expected "
            f"{message.height} rows of {message.step}; the camera driver or the transport cuts it"
        )
    try:
        picture = np.asarray(convert(message, "rgb8"))
    except Exception as error:  # CvBridgeError, cv2.error and plain ones, by version
        raise ObservationError(f"cv_bridge cannot turn '{message.encoding[:32]}' into rgb8: {error}") from error
    if picture.shape != (message.height, message.width, 3) or picture.dtype != np.uint8:
        raise ObservationError(f"cv_bridge returned {picture.shape} {picture.dtype} for '{message.encoding[:32]}'")
    picture.setflags(write=False)
    return picture
