"""Encodings of no shipped decoder, through cv_bridge where it is installed.

ROS 2's cv_bridge is on no package index, so where it is not installed a module with its interface stands in for it:
`CvBridge().imgmsg_to_cv2(message, "rgb8")`, with OpenCV's conversions behind it as in the real one.
"""

import array
import importlib.util
import sys

import numpy as np
import pytest
from sensor_msgs.msg import Image

from vla_ros.errors import ObservationError
from vla_ros.nodes import cv_bridge_images
from vla_ros.nodes.conversions import array_to_image, image_to_array

RED, GREEN, BLUE = 200, 100, 40
STAND_IN = """
import cv2
import numpy as np

CODES = {"bayer_rggb8": (np.uint8, 1, cv2.COLOR_BayerBG2RGB), "yuv422": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY)}


class CvBridgeError(TypeError):
    pass


class CvBridge:
    def imgmsg_to_cv2(self, img_msg, desired_encoding="passthrough"):
        if img_msg.encoding not in CODES or desired_encoding != "rgb8":
            raise CvBridgeError(f"Unrecognized image encoding [{img_msg.encoding}]")
        dtype, channels, code = CODES[img_msg.encoding]
        shape = (img_msg.height, img_msg.width, channels)[: 1 + channels]
        return cv2.cvtColor(np.ndarray(shape, dtype, bytes(img_msg.data)), code)
"""


def message(encoding: str, data: np.ndarray, width: int) -> Image:
    made = Image(height=data.shape[0], width=width, encoding=encoding, step=data.nbytes // data.shape[0])
    made.data = array.array("B", data.tobytes())
    return made


def bayer(height: int = 8, width: int = 8) -> Image:
    """Return a picture of one colour as a sensor with the pattern red, green / green, blue sees it."""
    mosaic = np.empty((height, width), np.uint8)
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = RED, BLUE
    mosaic[0::2, 1::2] = mosaic[1::2, 0::2] = GREEN
    return message("bayer_rggb8", mosaic, width)


@pytest.fixture
def without(monkeypatch):
    """cv_bridge is not installed."""
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    cv_bridge_images._converter.cache_clear()
    yield
    cv_bridge_images._converter.cache_clear()


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """cv_bridge is installed: the real one where there is one."""
    if importlib.util.find_spec("cv_bridge") is None:
        (tmp_path / "cv_bridge.py").write_text(STAND_IN, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
    cv_bridge_images._converter.cache_clear()
    yield
    sys.modules.pop("cv_bridge", None)
    cv_bridge_images._converter.cache_clear()


def test_a_bayer_pattern_becomes_rgb(installed):
    picture = image_to_array(bayer())
    assert picture.dtype == np.uint8
    assert not picture.flags.writeable
    np.testing.assert_array_equal(picture, np.broadcast_to([RED, GREEN, BLUE], (8, 8, 3)))


def test_yuv_becomes_rgb(installed):
    grey = np.empty((4, 6, 2), np.uint8)
    grey[..., 0], grey[..., 1] = 128, 126  # no colour; ITU-R BT.601: (126 - 16) * 255 / 219 = 128.1
    picture = image_to_array(message("yuv422", grey, 6))
    assert picture.shape == (4, 6, 3)
    np.testing.assert_allclose(picture, 128, atol=1)


def test_what_the_shipped_decoder_knows_never_goes_through_it(installed, monkeypatch):
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    there = array_to_image(picture, 0.0, "camera")
    monkeypatch.setattr("vla_ros.nodes.conversions.decode_with_cv_bridge", lambda message: pytest.fail("asked"))
    seen = image_to_array(there)
    np.testing.assert_array_equal(seen, picture)
    assert np.shares_memory(seen, np.asarray(there.data))  # without a copy


def test_without_it_the_encoding_is_named(without):
    with pytest.raises(ObservationError, match=r"encoding 'bayer_rggb8' is not known.*cv_bridge"):
        image_to_array(bayer())


def test_what_it_cannot_convert_either_is_named(installed):
    with pytest.raises(ObservationError, match="cv_bridge cannot turn 'no_such_encoding' into rgb8"):
        image_to_array(message("no_such_encoding", np.zeros((2, 2), np.uint8), 2))


def test_an_image_that_was_cut_never_reaches_it(installed):
    cut = bayer()
    cut.data = cut.data[:-1]
    with pytest.raises(ObservationError, match="has 63 bytes, expected 8 rows of 8"):
        image_to_array(cut)


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint16), np.zeros((8, 9, 3), np.uint8), None]
)
def test_another_answer_than_promised_is_refused(installed, monkeypatch, wrong):
    monkeypatch.setattr("cv_bridge.CvBridge.imgmsg_to_cv2", lambda *arguments: wrong)
    with pytest.raises(ObservationError, match="cv_bridge returned"):
        image_to_array(bayer())
