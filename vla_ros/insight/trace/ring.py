"""Ring buffer of trace segments: the last minutes of a run, kept elsewhere after an incident.

    <folder>/<date>_<pid>/trace_000012.mcap ... metadata.yaml    ring of one run, a rosbag2 folder
    <folder>/kept/<date>_<what>/            the same, moved out of the ring

Every size is bounded: the segments of a run, the rings of earlier runs, and the kept traces.
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

from vla_ros.data.episodes.durable import write_whole
from vla_ros.insight.trace.layout import KEPT, METADATA_FILE, Channel, Segment, bag_metadata
from vla_ros.insight.trace.segment import SegmentWriter, is_finished

LOCK = ".lock"
"""Lock file of a ring being written; the lock is released when its process ends, however it ends."""

NS = 1_000_000_000
LARGEST_MESSAGE = 4 << 20
"""Largest recorded message, B; larger ones are skipped."""


@dataclass(frozen=True)
class RingLimits:
    """Bounds on the size of traces.

    Attributes:
        segment_seconds: Duration of a segment, s.
        ring_seconds: Duration of a ring, s; at most one segment more.
        ring_bytes: Size of a ring, and of all rings of earlier runs together, B; at most one segment more.
        segment_bytes: Size at which a segment ends, B.
        kept_bytes: Total size of kept traces, B; the oldest is removed first, the newest always stays.
        keep_after: Time recorded after an incident before the ring is moved out, s.
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
    """Writes the trace of one run; not thread-safe.

    Attributes:
        run: Folder of this run's ring.
        left_out: Number of messages skipped as larger than `LARGEST_MESSAGE`.
        kept: Folders of kept traces, oldest first.
    """

    def __init__(
        self,
        folder: Path,
        channels: Mapping[str, Channel],
        origin: Mapping[str, str],
        now: int,
        limits: RingLimits = RingLimits(),
    ) -> None:
        """Create the folder of this run, keep the ring of a killed process, and remove surplus rings.

        Args:
            folder: Folder of all traces.
            channels: Channels by the caller's keys.
            origin: Metadata record of each segment.
            now: ns.
            limits: Bounds.

        Raises:
            OSError: when the folder cannot be created.
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
        """Append a serialized message received at `now`, ns.

        Raises:
            OSError: when it cannot be written; the segment is abandoned, and the next message starts another one.
            KeyError: when `key` is not a channel.
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
        """Schedule the ring to be kept; `what` is a word for its folder name.

        Incidents that occur before the ring is moved out are kept with it.
        """
        if self._pending is None:
            self._pending = _Pending(what, now + int(self._limits.keep_after * NS))

    def tick(self, now: int) -> Path | None:
        """Do due work; call it once a second. Returns the folder of a trace kept now, if any.

        Raises:
            OSError: when the disk does not accept it.
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
        """End the run; keep the ring now if that is pending, and return its folder.

        Raises:
            OSError: when the disk does not accept it.
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
        """Close the growing segment; one that could not be finished still counts towards the bounds."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._segments.append(writer.segment)
            writer.finish()

    def _write_metadata(self, folder: Path) -> None:
        write_whole(folder / METADATA_FILE, bag_metadata(self._segments, self._by_topic))

    def _shrink(self, now: int) -> None:
        """Remove the oldest segments; a pending incident suspends the time bound, but not the bound in bytes."""
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
    """Create and lock the folder of a run; it gets its name once it is locked."""
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
    """Return the traces in a folder, oldest first by name, which starts with the date."""
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
