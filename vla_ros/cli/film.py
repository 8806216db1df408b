"""Record an episode as MP4 plus a contact sheet, each frame with a line of text above and below."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final

import av
import cv2
import numpy as np

from vla_ros.types import ImageArray

SCALE = 2
BANNER = 34
"""Height of each text line, px."""

ENCODERS: Final = ("libx264", "mpeg4")
"""H.264 encoders in order of preference; the first that the installed PyAV provides is used."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BACKGROUND, _TEXT, _GOOD, _BAD = (28, 30, 34), (235, 235, 235), (120, 220, 130), (250, 120, 100)  # RGB


def annotate(image: ImageArray, title: str, state: str, good: bool | None = None) -> ImageArray:
    """Return the image scaled by 2, with `title` above and `state` below.

    Args:
        image: (height, width, 3) uint8 RGB.
        title: The instruction.
        state: Current state of the episode.
        good: Colors `state` green if True, red if False, neutral if None.
    """
    height, width = image.shape[0] * SCALE, image.shape[1] * SCALE
    page = np.full((height + 2 * BANNER, width, 3), _BACKGROUND, dtype=np.uint8)
    page[BANNER : BANNER + height] = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    _write(page, title, BANNER - 11, _TEXT)
    _write(page, state, height + 2 * BANNER - 11, _TEXT if good is None else _GOOD if good else _BAD)
    return page


def _write(page: ImageArray, text: str, baseline: int, colour: tuple[int, int, int]) -> None:
    scale = 0.55
    while scale > 0.3 and cv2.getTextSize(text, _FONT, scale, 1)[0][0] > page.shape[1] - 16:
        scale -= 0.02
    cv2.putText(page, text, (8, baseline), _FONT, scale, colour, 1, cv2.LINE_AA)


class Film:
    """Writes an MP4 frame by frame, and on close a contact sheet of evenly spaced stills."""

    def __init__(self, path: Path, rate_hz: float, stills: int = 8) -> None:
        """Begin a video at `path`; the contact sheet is written beside it as `.png`.

        Args:
            path: Path of the MP4.
            rate_hz: Frame rate, Hz.
            stills: Number of images on the contact sheet.
        """
        self.path, self.sheet_path = path, path.with_suffix(".png")
        self._stills, self._step = stills, 1
        self._kept: list[ImageArray] = []
        self._count = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", options={"movflags": "faststart"})
        self._rate = Fraction(rate_hz).limit_denominator(1000)
        self._stream: av.VideoStream | None = None

    def add(self, frame: ImageArray) -> None:
        """Append a (height, width, 3) uint8 RGB frame. All frames have the size of the first; both sides are even."""
        if self._stream is None:
            self._stream = self._open_stream(frame)
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
            self._container.mux(packet)
        if self._count % self._step == 0:
            self._kept.append(frame)
        if len(self._kept) >= 2 * self._stills:  # bounds memory however long the video gets
            self._kept, self._step = self._kept[::2], 2 * self._step
        self._last = frame
        self._count += 1

    def _open_stream(self, frame: ImageArray) -> av.VideoStream:
        encoder = next(name for name in ENCODERS if name in av.codecs_available)
        stream = self._container.add_stream(encoder, rate=self._rate)
        stream.height, stream.width = frame.shape[0], frame.shape[1]
        stream.pix_fmt = "yuv420p"
        if encoder == "libx264":
            stream.options = {"crf": "23", "preset": "veryfast"}
        else:
            stream.bit_rate = 2_000_000
        stream.codec_context.thread_count = 1  # the control thread needs the cores
        return stream

    def close(self) -> None:
        """Finish the video and write the contact sheet; without any frame, leave no file."""
        if self._stream is None:
            self._container.close()
            self.path.unlink(missing_ok=True)
            return
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        self._stream = None
        chosen = np.linspace(0, len(self._kept) - 1, min(self._stills, len(self._kept))).round().astype(int)
        pictures = [cv2.resize(self._kept[i], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for i in chosen]
        pictures[-1] = cv2.resize(self._last, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        columns = min(4, len(pictures))
        pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % columns)
        rows = [np.concatenate(pictures[i : i + columns], axis=1) for i in range(0, len(pictures), columns)]
        cv2.imwrite(str(self.sheet_path), np.concatenate(rows)[:, :, ::-1])

    def __enter__(self) -> Film:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the video, also after an exception."""
        self.close()
