"""Turns the bytes of a camera image into an RGB array; nothing that the sender claims about them is believed."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import cv2
import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.types import ImageArray

_ENCODINGS: Mapping[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
}
"""Encoding, as in `sensor_msgs/image_encodings`, to (bytes a pixel, OpenCV's conversion to RGB)."""

KNOWN_ENCODINGS = frozenset(_ENCODINGS)


def decode_image(
    data: array[int] | bytes | memoryview, encoding: str, height: int, width: int, step: int
) -> ImageArray:
    """Return the picture as (height, width, 3) uint8 RGB, read-only.

    rgb8 is a view of `data`, rows padded or not: it costs microseconds and keeps `data` alive.

    Args:
        data: Rows of pixels from the top; each may be padded at its end.
        encoding: One of rgb8, bgr8, rgba8, bgra8, mono8.
        height: Rows.
        width: Pixels a row.
        step: Bytes a row, padding included.

    Raises:
        ObservationError: for an encoding that is not known, a size of zero, or data that does not fit it.
    """
    if encoding not in _ENCODINGS:
        raise ObservationError(
            f"image encoding '{encoding[:32]}' is not known; set the camera driver to one of {sorted(_ENCODINGS)}, "
            "or install ROS 2's cv_bridge"
        )
    channels, to_rgb = _ENCODINGS[encoding]
    if height < 1 or width < 1 or step < width * channels:
        raise ObservationError(
            f"image says {width} x {height} px with rows of {step} bytes; expected at least 1 x 1 px and "
            f"{width * channels} bytes for {encoding}; look at the camera driver"
        )
    if len(data) != height * step:
        raise ObservationError(
            f"image has {len(data)} bytes, expected {height} rows of {step} = {height * step}; "
            "the camera driver or the transport cuts it"
        )
    rows = np.frombuffer(data, dtype=np.uint8).reshape(height, step)
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    picture: ImageArray = pixels if to_rgb is None else np.asarray(cv2.cvtColor(pixels, to_rgb), dtype=np.uint8)
    picture.setflags(write=False)
    return picture
