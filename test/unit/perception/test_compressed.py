"""JPEG and PNG give their picture; what is cut, damaged, too large, or depth gives one sentence."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vla_ros.errors import ObservationError
from vla_ros.perception.compressed import decode_compressed

HEIGHT, WIDTH = 48, 64
BLOCKS = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
PICTURE = np.kron(BLOCKS, np.ones((8, 8, 1), np.uint8))
JPEG_ERROR = 12.0
"""Mean error of a color that JPEG of quality 95 may have, 0 to 255; swapped channels give over 50."""


def coded(picture: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def decode(data: bytes, form: str = "jpeg", declared: str = "") -> np.ndarray:
    return decode_compressed(data, form, HEIGHT, WIDTH, declared=declared)


JPEG, PNG = coded(PICTURE, "JPEG", quality=95), coded(PICTURE, "PNG")


@pytest.mark.parametrize("form", ["png", "rgb8; png compressed bgr8", "", "jpeg"])
def test_png_gives_the_same_picture_whatever_its_format_is_called(form: str) -> None:
    picture = decode(PNG, form)
    np.testing.assert_array_equal(picture, PICTURE)
    assert not picture.flags.writeable


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_gives_nearly_the_same_picture(options: dict[str, object]) -> None:
    picture = decode(coded(PICTURE, "JPEG", quality=95, **options), "rgb8; jpeg compressed bgr8")
    assert np.abs(picture.astype(int) - PICTURE).mean() < JPEG_ERROR


def test_what_opencv_wrote_has_its_colors() -> None:
    cv2 = pytest.importorskip("cv2")
    for kind in (".png", ".jpg"):
        content = cv2.imencode(kind, PICTURE[..., ::-1].copy())[1].tobytes()
        assert np.abs(decode(content).astype(int) - PICTURE).mean() < JPEG_ERROR


def test_gray_and_alpha_become_rgb() -> None:
    gray = PICTURE[..., 0]
    np.testing.assert_array_equal(decode(coded(gray, "PNG")), np.repeat(gray[..., None], 3, axis=2))
    alpha = np.dstack([PICTURE, np.full((HEIGHT, WIDTH), 9, np.uint8)])
    np.testing.assert_array_equal(decode(coded(alpha, "PNG")), PICTURE)


def test_sixteen_bit_gray_needs_the_word_of_the_contract() -> None:
    wide = PICTURE[..., 0].astype(np.uint16) * 257
    content = coded(wide, "PNG")
    with pytest.raises(ObservationError, match="'16UC1; png compressed' may be depth"):
        decode(content, "16UC1; png compressed")
    picture = decode(content, "mono16; png compressed", declared="mono16")
    np.testing.assert_array_equal(picture, np.repeat(PICTURE[..., :1], 3, axis=2))


def test_compressed_depth_is_refused_by_name() -> None:
    content = b"\0" * 12 + coded(PICTURE[..., 0].astype(np.uint16), "PNG")
    with pytest.raises(ObservationError, match="'16UC1; compressedDepth png' is depth"):
        decode(content, "16UC1; compressedDepth png")


@pytest.mark.parametrize("content", [JPEG, PNG], ids=["jpeg", "png"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_what_is_cut_is_one_refused_image(content: bytes, kept: float) -> None:
    with pytest.raises(ObservationError, match=r"is cut or damaged|neither JPEG nor PNG"):
        decode(content[: int(kept * len(content))])


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"GIF89a" + bytes(50), b"RIFF" + bytes(60)])
def test_what_is_neither_is_named(content: bytes) -> None:
    with pytest.raises(ObservationError, match=f"\\({len(content)} bytes\\) is neither JPEG nor PNG|is cut or damaged"):
        decode(content)


def test_another_size_is_refused_before_a_pixel_is_decoded() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    with pytest.raises(ObservationError, match=r"30000 x 30000 px, expected 64 x 48|damaged: .*decompression bomb"):
        decode(bomb)
    with pytest.raises(ObservationError, match="32 x 48 px, expected 64 x 48"):
        decode(coded(PICTURE[:, :32], "JPEG"))


@given(st.binary(max_size=300), st.sampled_from([JPEG, PNG]), st.integers(0, 400))
def test_damage_anywhere_gives_a_picture_or_a_refusal(damage: bytes, content: bytes, at: int) -> None:
    try:
        picture = decode(content[:at] + damage + content[at + len(damage) :])
    except ObservationError:
        return
    assert picture.shape == (HEIGHT, WIDTH, 3)
