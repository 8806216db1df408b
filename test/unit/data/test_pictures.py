"""A coded image becomes 8-bit RGB, or it is refused: bits are not dropped without a word."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vla_ros.data.episodes.images import decode_image
from vla_ros.data.errors import DamagedDataError, DataError


def coded(image, ending=".png"):
    return cv2.imencode(ending, image)[1].tobytes()


def test_color_comes_back_as_rgb():
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 2] = 200  # red, in OpenCV's order
    assert decode_image(coded(image), "x")[0, 0].tolist() == [200, 0, 0]
    transparent = np.dstack([image, np.full((4, 6), 9, np.uint8)])
    assert decode_image(coded(transparent), "x").shape == (4, 6, 3)
    assert decode_image(coded(np.full((4, 6), 7, np.uint8)), "x").tolist() == np.full((4, 6, 3), 7).tolist()


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)])
def test_16_bits_are_refused(shape):
    with pytest.raises(DataError, match="here holds an image of uint16, expected 8 bits a channel"):
        decode_image(coded(np.full(shape, 1000, np.uint16)), "here")


@pytest.mark.parametrize("content", [b"", b"x", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_junk_is_damaged(content):
    with pytest.raises(DamagedDataError, match=f"{len(content)} bytes"):
        decode_image(content, "here")
