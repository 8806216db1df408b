"""Decoder for compressed camera images (JPEG, PNG) to RGB; the size is checked before decoding."""

from __future__ import annotations

import io
from array import array

import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.perception.decoding import narrow, require_declared_gray
from vla_ros.types import ImageArray

DEPTH_FORMAT = "compressedDepth"
"""Format marker of image_transport's depth plugin: depth behind a header of its own."""

MODES = ("RGB", "RGBA", "L", "LA", "P", "1")
"""Pillow modes that convert to 8-bit RGB; the colors of others, such as CMYK, are ambiguous."""


def decode_compressed(
    data: array[int] | bytes | memoryview, form: str, height: int, width: int, *, declared: str = ""
) -> ImageArray:
    """Decode a JPEG or PNG to (height, width, 3) uint8 RGB, read-only; gray becomes RGB, alpha is dropped.

    The size in the header is checked before any pixel is decoded, so that a few bytes cannot allocate gigabytes.

    Args:
        data: The encoded file.
        form: `format` of the message, such as "rgb8; jpeg compressed bgr8". Only depth is recognized by it; otherwise
            the bytes decide.
        height: Rows, as in the robot contract.
        width: Columns, as in the robot contract.
        declared: Encoding in the contract, or "". Required for 16-bit gray PNG, which looks the same as depth.

    Raises:
        ObservationError: when it is neither JPEG nor PNG, truncated or damaged, of another size, or possibly depth.
    """
    if DEPTH_FORMAT in form:
        raise ObservationError(
            f"compressed image of format '{form[:64]}' is depth, which is no camera image: give the topic of the color "
            "camera"
        )
    # Imported with the first compressed image: most robots publish none.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(bytes(data)), formats=("JPEG", "PNG")) as coded:
            if coded.size != (width, height):
                raise ObservationError(
                    f"compressed image of {coded.size[0]} x {coded.size[1]} px, expected {width} x {height} as the "
                    "robot contract says"
                )
            if coded.mode.startswith("I"):  # 16-bit gray
                require_declared_gray(f"{form or coded.format}", declared)
                picture = np.repeat(narrow(np.asarray(coded).astype(np.uint16))[..., None], 3, axis=2)
            elif coded.mode in MODES:
                picture = np.array(coded.convert("RGB"))
            else:
                raise ObservationError(f"compressed image has colors '{coded.mode}', expected one of {list(MODES)}")
    except ObservationError:
        raise
    except UnidentifiedImageError as error:
        raise ObservationError(
            f"compressed image of format '{form[:64]}' ({len(data)} bytes) is neither JPEG nor PNG; set the driver's "
            "image_transport to jpeg or png"
        ) from error
    except Exception as error:  # a damaged file raises OSError, SyntaxError, ValueError, struct.error, ...
        raise ObservationError(
            f"compressed image of format '{form[:64]}' ({len(data)} bytes) is cut or damaged: {str(error)[:120]}"
        ) from error
    picture.setflags(write=False)
    return picture
