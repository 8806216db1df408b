"""Every encoding gives the same picture, and bytes that do not fit their claim are named."""

from __future__ import annotations

import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ObservationError
from vla_ros.perception.decoding import decode_image

PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = np.full((5, 7, 1), 77, np.uint8)
ENCODED = {
    "rgb8": PICTURE,
    "bgr8": PICTURE[..., ::-1],
    "rgba8": np.concatenate([PICTURE, ALPHA], axis=2),
    "bgra8": np.concatenate([PICTURE[..., ::-1], ALPHA], axis=2),
}


def padded(pixels: np.ndarray, padding: int) -> tuple[array.array, int]:
    """Return the bytes of `pixels` with `padding` bytes of noise behind every row, and the length of a row."""
    rows = pixels.reshape(len(pixels), -1)
    noise = np.full((len(rows), padding), 213, np.uint8)
    return array.array("B", np.hstack([rows, noise]).tobytes()), rows.shape[1] + padding


@pytest.mark.parametrize("padding", [0, 1, 5])
@pytest.mark.parametrize("encoding", ENCODED)
def test_every_encoding_gives_the_same_picture(encoding: str, padding: int) -> None:
    data, step = padded(ENCODED[encoding], padding)
    picture = decode_image(data, encoding, 5, 7, step)
    np.testing.assert_array_equal(picture, PICTURE)
    assert picture.dtype == np.uint8
    assert not picture.flags.writeable


@pytest.mark.parametrize("padding", [0, 3])
def test_grey_becomes_three_equal_channels(padding: int) -> None:
    data, step = padded(PICTURE[..., 0], padding)
    np.testing.assert_array_equal(decode_image(data, "mono8", 5, 7, step), np.repeat(PICTURE[..., :1], 3, axis=2))


@pytest.mark.parametrize("padding", [0, 4])
def test_rgb_is_a_view(padding: int) -> None:
    data, step = padded(PICTURE, padding)
    picture = decode_image(data, "rgb8", 5, 7, step)
    data[step] = (data[step] + 1) % 256
    assert picture[1, 0, 0] == data[step]


@pytest.mark.parametrize(
    ("claim", "says"),
    [
        (("yuv422", 5, 7, 21), "'yuv422' is not known"),
        (("rgb16", 5, 7, 21), "'rgb16' is not known"),
        (("", 5, 7, 21), "'' is not known"),
        (("RGB8", 5, 7, 21), "'RGB8' is not known"),
        (("rgb8", 0, 7, 21), "at least 1 x 1"),
        (("rgb8", 5, 0, 21), "at least 1 x 1"),
        (("rgb8", 5, 7, 0), "rows of 0 bytes"),
        (("rgb8", 5, 7, 20), "21 bytes for rgb8"),
        (("rgba8", 5, 7, 21), "28 bytes for rgba8"),
        (("rgb8", 6, 7, 21), "105 bytes, expected 6 rows of 21 = 126"),
        (("rgb8", 4, 7, 21), "105 bytes, expected 4 rows of 21 = 84"),
        (("rgb8", 2**31, 7, 2**31), "105 bytes"),
    ],
)
def test_a_false_claim_is_named(claim: tuple[str, int, int, int], says: str) -> None:
    with pytest.raises(ObservationError, match=says):
        decode_image(PICTURE.tobytes(), *claim)


def test_no_data_is_named() -> None:
    with pytest.raises(ObservationError, match="0 bytes"):
        decode_image(array.array("B"), "rgb8", 5, 7, 21)


@given(
    st.binary(max_size=200),
    st.sampled_from([*ENCODED, "mono8", "nonsense"]),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 80),
)
def test_whatever_is_claimed_the_answer_is_a_picture_or_a_refusal(data, encoding, height, width, step) -> None:
    try:
        picture = decode_image(data, encoding, height, width, step)
    except ObservationError:
        return
    assert picture.shape == (height, width, 3)
