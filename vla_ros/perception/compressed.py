"""Turns a coded camera image into an RGB array: JPEG and PNG, bounded before anything is decoded."""

from __future__ import annotations

import io
from array import array

import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.perception.decoding import narrow, require_declared_gray
from vla_ros.types import ImageArray

DEPTH_FORMAT = "compressedDepth"
"""How the depth plugin of image_transport marks its images: depth behind a header of its own."""

MODES = ("RGB", "RGBA", "L", "LA", "P", "1")
"""Pillow's names of what becomes RGB of 8 bits; of CMYK and the like nobody knows the colors."""


def decode_compressed(
    data: array[int] | bytes | memoryview, form: str, height: int, width: int, *, declared: str = ""
) -> ImageArray:
    """Return a JPEG or PNG as (height, width, 3) uint8 RGB, read-only; gray becomes RGB, an alpha channel is dropped.

    The size in its header is compared before a pixel is decoded, so that a few bytes cannot ask for gigabytes.

    Args:
        data: The file.
        form: `format` of the message, such as "rgb8; jpeg compressed bgr8". What the bytes are counts, but for depth.
        height: Rows that the contract says.
        width: Columns.
        declared: Encoding that the contract says; "": nothing. PNG of 16-bit gray needs it, since depth looks the same.

    Raises:
        ObservationError: when it is neither, is cut or damaged, has another size, or may be depth.
    """
    if DEPTH_FORMAT in form:
        raise ObservationError(
            f"compressed image of format '{form[:64]}' is depth, which is no camera image: give the topic of the color "
            "camera"
        )
    # Imported by the first compressed image: most robots send none.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(bytes(data)), formats=("JPEG", "PNG")) as coded:
            if coded.size != (width, height):
                raise ObservationError(
                    f"compressed image of {coded.size[0]} x {coded.size[1]} px, expected {width} x {height} as the "
                    "robot contract says"
                )
            if coded.mode.startswith("I"):  # 16 bits of gray
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
    except Exception as error:  # of a damaged file: OSError, SyntaxError, ValueError, struct.error, ...
        raise ObservationError(
            f"compressed image of format '{form[:64]}' ({len(data)} bytes) is cut or damaged: {str(error)[:120]}"
        ) from error
    picture.setflags(write=False)
    return picture
