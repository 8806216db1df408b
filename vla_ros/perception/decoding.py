"""Decoder for raw camera images to RGB; does not trust the sender's size and encoding."""

from __future__ import annotations

import functools
from array import array
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.robot.sections.camera import COLOR_ENCODINGS, GRAY_16
from vla_ros.types import ImageArray

DEPTH = ("32FC1", *GRAY_16)
"""Encodings of depth images (REP 118)."""

LEAST_MOSAIC = 4
"""Minimum width and height of a Bayer image, px: demosaicing interpolates from neighboring pixels."""


@dataclass(frozen=True)
class _Layout:
    """Pixel layout of an encoding.

    Attributes:
        values: Values per pixel (1, 2, 3 or 4).
        to_rgb: OpenCV's conversion code to RGB; None where none is needed.
        is_wide: Whether each value has 16 bits.
        pairs_columns: Whether adjacent columns share their chroma.
        pairs_rows: Whether adjacent rows share their chroma, stored in half as many rows below the luma rows.
        least: Minimum number of rows and columns, px.
    """

    values: int
    to_rgb: int | None
    is_wide: bool = False
    pairs_columns: bool = False
    pairs_rows: bool = False
    least: int = 1


@functools.cache
def _layouts() -> dict[str, _Layout]:
    import cv2

    layouts = {"rgb8": _Layout(3, None), "mono8": _Layout(1, cv2.COLOR_GRAY2RGB)}
    layouts["bgr8"] = layouts["8UC3"] = _Layout(3, cv2.COLOR_BGR2RGB)  # 8UC3 is OpenCV's own order, as in RViz
    layouts |= {"rgba8": _Layout(4, cv2.COLOR_RGBA2RGB), "bgra8": _Layout(4, cv2.COLOR_BGRA2RGB)}
    layouts |= {
        f"{name[:-1]}16": _Layout(layouts[name].values, layouts[name].to_rgb, is_wide=True)
        for name in ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")
    }
    layouts["16UC1"] = layouts["mono16"]
    layouts["yuv422"] = layouts["uyvy"] = _Layout(2, cv2.COLOR_YUV2RGB_UYVY, pairs_columns=True)
    layouts["yuv422_yuy2"] = layouts["yuyv"] = _Layout(2, cv2.COLOR_YUV2RGB_YUY2, pairs_columns=True)
    layouts["nv12"] = _Layout(1, cv2.COLOR_YUV2RGB_NV12, pairs_columns=True, pairs_rows=True)
    layouts["nv21"] = _Layout(1, cv2.COLOR_YUV2RGB_NV21, pairs_columns=True, pairs_rows=True)
    # OpenCV names a Bayer pattern by the second row from its second column, ROS by the first row from its first column.
    patterns = {
        "rggb": cv2.COLOR_BayerBG2RGB,
        "bggr": cv2.COLOR_BayerRG2RGB,
        "gbrg": cv2.COLOR_BayerGR2RGB,
        "grbg": cv2.COLOR_BayerGB2RGB,
    }
    for name, code in patterns.items():
        layouts[f"bayer_{name}8"] = _Layout(1, code, least=LEAST_MOSAIC)
        layouts[f"bayer_{name}16"] = _Layout(1, code, is_wide=True, least=LEAST_MOSAIC)
    return layouts


def decode_image(
    data: array[int] | bytes | memoryview,
    encoding: str,
    height: int,
    width: int,
    step: int,
    *,
    big_endian: bool = False,
    declared: str = "",
) -> ImageArray:
    """Decode a raw image to (height, width, 3) uint8 RGB, read-only.

    rgb8 is a view of `data`, rows padded or not: it costs microseconds and keeps `data` alive. 16-bit values are scaled
    to 8 bits over the full range. YUV is limited-range BT.601, as OpenCV and cv_bridge read it.

    Args:
        data: Rows of pixels from the top; each may be padded at its end.
        encoding: One of `sensor_msgs/image_encodings`, or nv12; `COLOR_ENCODINGS` lists all.
        height: Rows.
        width: Pixels per row.
        step: Bytes per row, padding included.
        big_endian: Whether 16-bit values are big-endian.
        declared: Encoding in the contract, or "". Required for 16-bit gray, which looks the same as depth.

    Raises:
        ObservationError: when the encoding is unknown, holds depth or differs from `declared`; when the size is zero or
            does not match the data.
    """
    layout = _layout_of(encoding, declared)
    _require_size(layout, encoding, height, width, step)
    rows_sent = height + height // 2 if layout.pairs_rows else height
    if len(data) != rows_sent * step:
        raise ObservationError(
            f"image has {len(data)} bytes, expected {rows_sent} rows of {step} = {rows_sent * step} for "
            f"{encoding}; the camera driver or the transport cuts it"
        )
    rows = np.frombuffer(data, dtype=np.uint8).reshape(rows_sent, step)
    pixels: np.ndarray = rows[:, : _row_bytes(layout, width)]
    if layout.is_wide:
        pixels = np.ascontiguousarray(pixels).view(">u2" if big_endian else "<u2").astype(np.uint16)
    if layout.values > 1:
        pixels = pixels.reshape(rows_sent, width, layout.values)
    picture = pixels if layout.to_rgb is None else _converted(pixels, layout.to_rgb)
    if layout.is_wide:
        picture = narrow(picture)
    picture.setflags(write=False)
    return picture


def _converted(pixels: np.ndarray, code: int) -> np.ndarray:
    import cv2

    return np.asarray(cv2.cvtColor(pixels, code))


def narrow(wide: np.ndarray) -> ImageArray:
    """Scale uint16 values of any shape to uint8: 0 stays 0, 65535 becomes 255."""
    import cv2

    return np.asarray(cv2.convertScaleAbs(wide, alpha=1.0 / 257.0), dtype=np.uint8)


def require_declared_gray(encoding: str, declared: str) -> None:
    """Reject 16-bit gray that the contract does not declare.

    Raises:
        ObservationError: with the contract line to add if the image is not depth.
    """
    if declared not in GRAY_16:
        raise ObservationError(
            f"'{encoding[:32]}' may be depth, which is no camera image: give the topic of the color camera; for a gray "
            f"camera of 16 bits write 'encoding: {GRAY_16[0]}' (what its driver says) for it in the robot contract"
        )


def _layout_of(encoding: str, declared: str) -> _Layout:
    if declared and encoding != declared:
        raise ObservationError(
            f"image encoding is '{encoding[:32]}', the robot contract says '{declared}': correct the driver's, or the "
            "contract's 'encoding'"
        )
    if encoding in GRAY_16:
        require_declared_gray(encoding, declared)
    elif encoding in DEPTH:
        raise ObservationError(
            f"image encoding '{encoding}' is depth, which is no camera image: give the topic of the color camera"
        )
    if encoding not in _layouts():
        raise ObservationError(
            f"image encoding '{encoding[:32]}' is not known; set the camera driver to one of {sorted(COLOR_ENCODINGS)}"
        )
    return _layouts()[encoding]


def _row_bytes(layout: _Layout, width: int) -> int:
    return width * layout.values * (2 if layout.is_wide else 1)


def _require_size(layout: _Layout, encoding: str, height: int, width: int, step: int) -> None:
    least = layout.least
    if height < least or width < least or step < _row_bytes(layout, width):
        raise ObservationError(
            f"image says {width} x {height} px with rows of {step} bytes; expected at least {least} x {least} px and "
            f"{_row_bytes(layout, width)} bytes for {encoding}; look at the camera driver"
        )
    if (layout.pairs_columns and width % 2) or (layout.pairs_rows and height % 2):
        sides = "an even width and height" if layout.pairs_rows else "an even width"
        raise ObservationError(f"image says {width} x {height} px; expected {sides} for {encoding}")
