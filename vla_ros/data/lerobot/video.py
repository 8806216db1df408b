"""Encodes images to MP4 and decodes them, one frame at a time; concatenates MP4 files without re-encoding."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import av
import numpy as np

from vla_ros.data.errors import DamagedDataError, DataError, TruncatedVideoError
from vla_ros.data.lerobot.layout import is_depth_format
from vla_ros.types import ImageArray

CODEC: Final = "libx264"
PIXEL_FORMAT = "yuv420p"
OPTIONS = {"g": "2", "crf": "18", "bf": "0", "preset": "fast", "threads": "1"}
"""A keyframe every second frame keeps random access cheap; no frame depends on a later one (no B-frames)."""

TIME_TOLERANCE = 0.25
"""Largest deviation of a frame from its expected time, periods; beyond it the frame belongs to another step."""


class VideoEncoder:
    """Writes frames of one size at a fixed rate to a new MP4."""

    def __init__(self, path: Path, rate_hz: int, height: int, width: int) -> None:
        """Open the file.

        Raises:
            DataError: when a side is odd: the pixel format halves the color resolution.
        """
        if height % 2 or width % 2:
            raise DataError(f"a video needs even sides, these images are {width} x {height}; store them as images")
        self.path, self.frames = path, 0
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream(CODEC, rate=rate_hz, options=dict(OPTIONS))
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = PIXEL_FORMAT

    def add(self, image: ImageArray) -> None:
        """Append a frame (height, width, 3) uint8 RGB."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = self.frames
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def finish(self) -> None:
        """Flush the encoder and check that every frame was written.

        Raises:
            DamagedDataError: when the file holds another number of frames than were added.
            OSError: when it could not be written.
        """
        self._container.mux(self._stream.encode(None))
        self._container.close()
        written = count_frames(self.path)
        if written != self.frames:
            raise DamagedDataError(f"{self.path} holds {written} frames of the {self.frames} that were written")

    def abort(self) -> None:
        """Close the file, whatever it holds."""
        with suppress(OSError):  # the file is discarded anyway
            self._container.close()


def count_frames(path: Path) -> int:
    """Count the frames of a video without decoding it.

    Raises:
        TruncatedVideoError: when it cannot be opened.
    """
    with _opened(path) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def describe(path: Path) -> dict[str, Any]:
    """Return the video properties that LeRobot stores in `info.json`."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        assert stream.base_rate is not None  # this package wrote the file, at a rate
        return {
            "video.height": stream.height,
            "video.width": stream.width,
            "video.codec": stream.codec.canonical_name,
            "video.pix_fmt": stream.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": int(stream.base_rate),
            "video.channels": 3,
            "has_audio": False,
        }


def fits_behind(first: Path, second: Path) -> bool:
    """Return whether two videos have the same encoding, so that one can be appended to the other."""
    with _opened(first) as a, _opened(second) as b:
        one, other = a.streams.video[0], b.streams.video[0]
        return (
            one.codec.canonical_name == other.codec.canonical_name
            and (one.width, one.height, one.pix_fmt) == (other.width, other.height, other.pix_fmt)
            and one.codec_context.extradata == other.codec_context.extradata
            and one.time_base == other.time_base
        )


def concatenate(first: Path, first_frames: int, second: Path, target: Path, rate_hz: int) -> None:
    """Write the first `first_frames` frames of one video and all of another to `target`, without re-encoding.

    Raises:
        TruncatedVideoError: when the first has too few frames.
    """
    with _opened(first) as a, _opened(second) as b, av.open(str(target), "w", format="mp4") as output:
        stream = output.add_stream_from_template(a.streams.video[0])
        kept = 0
        for source, offset in ((a, 0), (b, first_frames)):
            base = source.streams.video[0].time_base
            assert base is not None  # FFmpeg gives every stream of a file one
            shift = round(offset / rate_hz / base)
            for packet in source.demux(video=0):
                if not packet.size or (source is a and kept >= first_frames):
                    continue
                kept += source is a
                assert packet.pts is not None  # an MP4 stores both for every packet
                assert packet.dts is not None
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                output.mux(packet)
    if kept < first_frames:
        raise TruncatedVideoError(f"{first} holds {kept} frames, its data set says at least {first_frames}")


def read_frames(path: Path, start: float, count: int, rate_hz: float) -> Generator[ImageArray, None, None]:
    """Yield `count` frames (height, width, 3) uint8 RGB, starting at `start` s; one is decoded at a time.

    Raises:
        TruncatedVideoError: when the video ends too early, or cannot be opened.
        DamagedDataError: when a frame is not at its expected time.
        DataError: when the video holds depth.
    """
    done = 0
    with _opened(path) as container:
        stream = container.streams.video[0]
        if is_depth_format(str(stream.pix_fmt)):
            raise DataError(f"{path} holds depth ({stream.pix_fmt}), expected color: name it no camera of the policy")
        assert stream.time_base is not None  # FFmpeg gives every stream of a file one
        container.seek(max(0, int(start / stream.time_base)), stream=stream, backward=True)
        try:
            for frame in container.decode(stream):
                if frame.time is None:
                    raise DamagedDataError(f"{path} holds a frame without a time")
                time, wanted = frame.time, start + done / rate_hz
                if time < wanted - TIME_TOLERANCE / rate_hz:
                    continue
                if time > wanted + TIME_TOLERANCE / rate_hz:
                    raise DamagedDataError(f"{path}: a frame at {wanted:.4f} s was expected, the next is at {time:.4f}")
                image = cast("ImageArray", frame.to_ndarray(format="rgb24"))  # other formats have other types
                done += 1
                yield image
                if done == count:
                    return
        except av.error.FFmpegError as error:
            why = _reason(path, round(start * rate_hz) + count)
            raise TruncatedVideoError(f"{path} breaks off after {done} of {count} frames ({error}): {why}") from error
    why = _reason(path, round(start * rate_hz) + count)
    raise TruncatedVideoError(f"{path} ends after {done} of {count} frames (from {start:.3f} s): {why}")


def _reason(path: Path, frames: int) -> str:
    """Explain why `frames` frames cannot be decoded: they are not in the file, or of another codec."""
    if count_frames(path) < frames:
        return "it was cut short; copy it again"
    return (
        f"its {frames} frames are there, but are not of one codec: lerobot's merge joins videos without re-encoding, "
        "and its delete and split re-encode them; merge the sets as they were recorded, and delete from what that makes"
    )


def _opened(path: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(path))
    except (OSError, ValueError) as error:
        if not path.exists():
            raise TruncatedVideoError(f"{path} does not exist") from error
        raise TruncatedVideoError(f"{path} cannot be opened: {error}; it was cut short: copy it again") from error
    if not container.streams.video:
        container.close()
        raise TruncatedVideoError(f"{path} holds no video")
    return container
