"""The ring: the last minutes of a run in segments, and what is moved out of it when something went wrong.

    <folder>/<date>_<pid>/trace_000012.mcap ... metadata.yaml    ring of one run, a rosbag2 folder
    <folder>/kept/<date>_<what>/            the same, out of the ring

Every size is bounded: the segments of a run, the rings of earlier runs, and what is kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from vla_ros.data.durable import write_whole
from vla_ros.insight.trace.layout import KEPT, METADATA_FILE, Channel, Segment, bag_metadata
from vla_ros.insight.trace.segment import SegmentWriter, is_finished

LOCK = ".lock"
"""In the folder of a ring that is being written; the hold on it ends with its process, however that ends."""

NS = 1_000_000_000
LARGEST_MESSAGE = 4 << 20
"""Larger messages are left out, B."""


@dataclass(frozen=True)
class RingLimits:
    """How much stays.

    Attributes:
        segment_seconds: Length of a segment, s.
        ring_seconds: What a ring holds, s; at most a segment more.
        ring_bytes: What a ring takes, B, and all rings of earlier runs together; at most a segment more.
        segment_bytes: A segment ends at this size, B.
        kept_bytes: What everything kept takes together, B; the oldest goes first, the newest always stays.
        keep_after: How long an incident is followed before the ring is moved out, s.
    """

    segment_seconds: float = 30.0
    ring_seconds: float = 600.0
    ring_bytes: int = 128 << 20
    segment_bytes: int = 8 << 20
    kept_bytes: int = 1 << 30
    keep_after: float = 5.0


@dataclass
class _Pending:
    """An incident whose ring is to be kept at `due`, ns."""

    what: str
    due: int


class TraceRing:
    """Writes the trace of one run; one thread uses it.

    Attributes:
        run: Folder of this run's ring.
        left_out: Messages that were larger than `LARGEST_MESSAGE`.
        kept: What was moved out of the ring, oldest first.
    """

    def __init__(
        self,
        folder: Path,
        channels: Mapping[str, Channel],
        origin: Mapping[str, str],
        now: int,
        limits: RingLimits = RingLimits(),
    ) -> None:
        """Make the folder of this run, keep what a killed process left, and remove rings that are too many.

        Args:
            folder: Of all traces.
            channels: Key of the caller to what is written under it.
            origin: Metadata record of each segment.
            now: ns.
            limits: Bounds.

        Raises:
            OSError: when the folder cannot be made.
        """
        self._folder, self._channels, self._origin, self._limits = folder, channels, origin, limits
        self._segments: list[Segment] = []
        self._writer: SegmentWriter | None = None
        self._carried: dict[str, tuple[bytes, int]] = {}
        self._number = 0
        self._pending: _Pending | None = None
        self._by_topic = {channel.topic: channel for channel in channels.values()}
        self.left_out = 0
        self.kept: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._tidy()
        self.run, self._hold = _claim(folder, now)

    def write(self, key: str, content: bytes, now: int) -> None:
        """Append a serialized message that came at `now`, ns.

        Raises:
            OSError: when it cannot be written; the segment is given up, the next message begins another one.
            KeyError: when `key` is none of the channels.
        """
        channel = self._channels[key]
        if len(content) > LARGEST_MESSAGE:
            self.left_out += 1
            return
        with self._giving_up():
            writer = self._writer or self._begin(now)
            writer.write(channel, content, now, now)
        if channel.carried:
            self._carried[key] = (content, now)

    def incident(self, what: str, now: int) -> None:
        """Keep the ring soon, as it then is; `what` is a word for the name of its folder.

        Incidents that come before it is moved out are kept with it.
        """
        if self._pending is None:
            self._pending = _Pending(what, now + int(self._limits.keep_after * NS))

    def tick(self, now: int) -> Path | None:
        """Do what is due: once a second, s. Returns what was kept.

        Raises:
            OSError: when the disk does not take it.
        """
        kept = None
        if self._writer is not None:
            with self._giving_up():
                self._writer.flush()
            segment = self._writer.segment
            old = now - segment.start >= self._limits.segment_seconds * NS
            if old or segment.size >= self._limits.segment_bytes:
                self._end_segment()
                self._shrink(now)
        if self._pending is not None and now >= self._pending.due:
            kept = self._keep()
        return kept

    def close(self) -> Path | None:
        """End the run; what was to be kept is kept now and returned.

        Raises:
            OSError: when the disk does not take it.
        """
        try:
            self._end_segment()
            kept = self._keep() if self._pending is not None else None
            if not self._segments:
                shutil.rmtree(self.run, ignore_errors=True)
            else:
                (self.run / LOCK).unlink(missing_ok=True)
            return kept
        finally:
            self._hold.close()

    def _begin(self, now: int) -> SegmentWriter:
        path = self.run / f"trace_{self._number:06d}.mcap"
        self._number += 1
        self._writer = SegmentWriter(path, self._origin, now)
        for key, (content, received) in self._carried.items():
            self._writer.write(self._channels[key], content, received, now)
        return self._writer

    def _end_segment(self) -> None:
        if self._writer is None:
            return
        self._finish()
        self._write_metadata(self.run)

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with contextlib.suppress(OSError):
                self._finish()
            raise

    def _finish(self) -> None:
        """Close the growing segment; one that could not be finished counts in the bounds all the same."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._segments.append(writer.segment)
            writer.finish()

    def _write_metadata(self, folder: Path) -> None:
        write_whole(folder / METADATA_FILE, bag_metadata(self._segments, self._by_topic))

    def _shrink(self, now: int) -> None:
        """Remove the oldest segments; an incident waits for all of them, but for the bound in bytes."""
        removed = False
        while self._segments:
            oldest = self._segments[0]
            old = now - oldest.end > self._limits.ring_seconds * NS and self._pending is None
            if not old and sum(one.size for one in self._segments) <= self._limits.ring_bytes:
                break
            (self.run / oldest.name).unlink(missing_ok=True)
            self._segments.pop(0)
            removed = True
        if removed:
            self._write_metadata(self.run)

    def _keep(self) -> Path | None:
        pending, self._pending = self._pending, None
        self._end_segment()
        if pending is None or not self._segments:
            return None
        target = _free_name(self._folder / KEPT, f"{_date(self._segments[-1].end)}_{pending.what}")
        target.mkdir(parents=True)
        for segment in self._segments:
            (self.run / segment.name).rename(target / segment.name)
        self._write_metadata(target)
        self._segments = []
        (self.run / METADATA_FILE).unlink(missing_ok=True)
        self.kept.append(target)
        _remove_oldest(_folders(self._folder / KEPT), self._limits.kept_bytes)
        return target

    def _tidy(self) -> None:
        """Keep the ring of a process that was killed, and remove the oldest rings of earlier runs."""
        rings = [path for path in _folders(self._folder) if not _is_held(path)]
        for path in rings:
            segments = sorted(path.glob("*.mcap"))
            if segments and not is_finished(segments[-1]):
                target = _free_name(self._folder / KEPT, f"{path.name}_interrupted")
                target.parent.mkdir(exist_ok=True)
                path.rename(target)
        _remove_oldest(_folders(self._folder / KEPT), self._limits.kept_bytes)
        _remove_oldest([path for path in rings if path.exists()], self._limits.ring_bytes)


def _claim(folder: Path, now: int) -> tuple[Path, IO[bytes]]:
    """Make and hold the folder of a run; it appears under its name when it is held."""
    run = _free_name(folder, f"{_date(now)}_{os.getpid()}")
    hidden = folder / f".{run.name}"
    hidden.mkdir()
    hold = (hidden / LOCK).open("wb")
    fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
    hidden.rename(run)
    return run, hold


def _is_held(run: Path) -> bool:
    try:
        with (run / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _folders(folder: Path) -> list[Path]:
    """Return the traces in a folder, oldest first by name, which begins with the date."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    return sorted((path for path in found if path.name != KEPT and any(path.glob("*.mcap"))), key=lambda one: one.name)


def _remove_oldest(folders: list[Path], most: int) -> None:
    """Remove folders, oldest first, until they take at most `most` B; the newest always stays."""
    sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in folders]
    while len(folders) > 1 and sum(sizes) > most:
        shutil.rmtree(folders.pop(0), ignore_errors=True)
        sizes.pop(0)


def _free_name(folder: Path, name: str) -> Path:
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{name}_{number}"
    return path


def _date(now: int) -> str:
    return f"{datetime.fromtimestamp(now / NS):%Y%m%d_%H%M%S}"
