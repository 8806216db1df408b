"""Every encoding gives the same picture, and bytes that do not fit their claim are named."""

from __future__ import annotations

import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ObservationError
from vla_ros.perception.decoding import decode_image
from vla_ros.robot.sections.camera import KNOWN_ENCODINGS

PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = np.full((5, 7, 1), 77, np.uint8)
ENCODED = {
    "rgb8": PICTURE,
    "bgr8": PICTURE[..., ::-1],
    "rgba8": np.concatenate([PICTURE, ALPHA], axis=2),
    "bgra8": np.concatenate([PICTURE[..., ::-1], ALPHA], axis=2),
    "8UC3": PICTURE[..., ::-1],
}
WIDE = ("rgb16", "bgr16", "rgba16", "bgra16")
RED, GREEN, BLUE = 200, 100, 40
MOSAICS = {
    "rggb": [[RED, GREEN], [GREEN, BLUE]],
    "bggr": [[BLUE, GREEN], [GREEN, RED]],
    "gbrg": [[GREEN, BLUE], [RED, GREEN]],
    "grbg": [[GREEN, RED], [BLUE, GREEN]],
}
YUV = {(81, 90, 240): (254, 0, 0), (145, 54, 34): (0, 254, 1), (41, 240, 110): (0, 0, 255), (126, 128, 128): (128,) * 3}
"""Y, U, V to R, G, B: 1.164 (Y - 16) + (1.596 (V - 128), -0.813 (V - 128) - 0.391 (U - 128), 2.018 (U - 128))."""


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
        (("yuv444", 5, 7, 21), "'yuv444' is not known"),
        (("32FC1", 5, 7, 28), "'32FC1' is depth"),
        (("mono16", 5, 7, 21), "'mono16' may be depth.*write 'encoding: mono16'"),
        (("16UC1", 5, 7, 21), "'16UC1' may be depth.*write 'encoding: mono16'"),
        (("8UC1", 5, 7, 21), "'8UC1' is not known"),
        (("yuv422", 5, 7, 21), "7 x 5 px; expected an even width for yuv422"),
        (("yuyv", 5, 8, 15), "16 bytes for yuyv"),
        (("nv12", 5, 8, 21), "expected 7 rows of 21 = 147|an even width and height for nv12"),
        (("nv12", 4, 8, 21), "105 bytes, expected 6 rows of 21 = 126 for nv12"),
        (("rgb16", 5, 7, 21), "42 bytes for rgb16"),
        (("bayer_rggb8", 5, 3, 21), "at least 4 x 4 px"),
        (("bayer_rggb16", 5, 12, 21), "24 bytes for bayer_rggb16"),
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


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("encoding", WIDE)
def test_sixteen_bits_become_eight_over_the_whole_range(encoding: str, padding: int, big_endian: bool) -> None:
    wide = (ENCODED[encoding.replace("16", "8")].astype(np.uint16) * 257).astype(">u2" if big_endian else "<u2")
    data, step = padded(wide.view(np.uint8), padding)
    picture = decode_image(data, encoding, 5, 7, step, big_endian=big_endian)
    np.testing.assert_array_equal(picture, PICTURE)
    assert not picture.flags.writeable


@pytest.mark.parametrize("declared", ["mono16", "16UC1"])
@pytest.mark.parametrize("big_endian", [False, True])
def test_declared_gray_of_sixteen_bits_is_rounded_to_the_nearest(declared: str, big_endian: bool) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = values.astype(">u2" if big_endian else "<u2").tobytes()
    picture = decode_image(data, declared, 256, 256, 512, big_endian=big_endian, declared=declared)
    expected = ((values.astype(np.int64) + 128) // 257)[..., None]
    np.testing.assert_array_equal(picture, np.repeat(expected, 3, axis=2))


def test_an_encoding_that_the_contract_does_not_say_is_named() -> None:
    with pytest.raises(ObservationError, match="is 'rgb8', the robot contract says 'mono16'"):
        decode_image(PICTURE.tobytes(), "rgb8", 5, 7, 21, declared="mono16")
    np.testing.assert_array_equal(decode_image(PICTURE.tobytes(), "rgb8", 5, 7, 21, declared="rgb8"), PICTURE)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("pattern", MOSAICS)
def test_one_color_behind_a_mosaic_stays_that_color(pattern: str, padding: int, bits: int) -> None:
    mosaic = np.tile(np.array(MOSAICS[pattern], np.uint8), (3, 4))
    sent = mosaic if bits == 8 else (mosaic.astype("<u2") * 257).view(np.uint8)
    data, step = padded(sent, padding)
    picture = decode_image(data, f"bayer_{pattern}{bits}", 6, 8, step)
    np.testing.assert_array_equal(picture, np.full((6, 8, 3), (RED, GREEN, BLUE)))


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
@pytest.mark.parametrize("color", YUV)
def test_yuv_becomes_the_color_that_it_stands_for(color: tuple[int, int, int], encoding: str, padding: int) -> None:
    y, u, v = color
    if encoding.startswith("nv"):
        chroma = (u, v) if encoding == "nv12" else (v, u)
        rows = np.vstack([np.full((4, 6), y), np.tile(chroma, (2, 3))]).astype(np.uint8)
    else:
        pair = (u, y, v, y) if encoding in ("yuv422", "uyvy") else (y, u, y, v)
        rows = np.tile(np.array(pair, np.uint8), (4, 3))
    data, step = padded(rows, padding)
    picture = decode_image(data, encoding, 4, 6, step)
    assert picture.shape == (4, 6, 3)
    assert np.abs(picture.astype(int) - YUV[color]).max() <= 1, picture[0, 0]


def test_each_pair_of_columns_has_its_own_color() -> None:
    red, blue = (90, 81, 240, 81), (240, 41, 110, 41)
    picture = decode_image(bytes([*red, *blue]), "yuv422", 1, 4, 8)
    expected = [[254, 0, 0], [254, 0, 0], [0, 0, 255], [0, 0, 255]]
    assert np.abs(picture[0].astype(int) - expected).max() <= 1


def test_every_encoding_of_the_contract_can_be_read() -> None:
    for encoding in KNOWN_ENCODINGS:
        rows = 6 if encoding.startswith("nv") else 4
        picture = decode_image(bytes(rows * 64), encoding, 4, 8, 64, declared=encoding)
        assert picture.shape == (4, 8, 3), encoding


@given(
    st.binary(max_size=200),
    st.sampled_from([*KNOWN_ENCODINGS, "32FC1", "nonsense"]),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 80),
)
def test_whatever_is_claimed_the_answer_is_a_picture_or_a_refusal(data, encoding, height, width, step) -> None:
    try:
        picture = decode_image(data, encoding, height, width, step, declared=encoding)
    except ObservationError:
        return
    assert picture.shape == (height, width, 3)
