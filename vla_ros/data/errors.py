"""What can be wrong with a data set, each with a name of its own; the text says which data set, episode and place."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from vla_ros.errors import VlaError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the operating system that say that no more fits: the disk, the user's quota, the largest file."""


class DataError(VlaError):
    """A data set cannot be read or written as asked."""


class DamagedDataError(DataError):
    """A file is cut short, or its checksum or its own figures do not hold."""


class TruncatedVideoError(DamagedDataError):
    """A video ends before the last frame of an episode, or cannot be opened at all."""


class MissingColumnError(DataError):
    """A column, a field or a camera that the reader needs is not there."""


class NotFiniteError(DataError):
    """A number is NaN or infinite."""


class ConventionError(DataError):
    """The actions follow another convention than was asked for, or nothing says which one they follow."""


class HostileDataError(DataError):
    """A file asks for code that is not on the list of known classes; nothing of it was run."""


class DiskFullError(DataError):
    """No more fits on the disk; what was being written is gone, everything finished before is untouched."""


class RecordingGapError(DataError):
    """A recording misses observations for longer than its steps may lie apart."""


class OddEpisodeError(DataError):
    """One episode cannot be learned from; the others of its data set may be sound."""


class DatasetBusyError(DataError):
    """Another process writes to the same data set."""


@contextmanager
def naming_full_disk(what: str) -> Iterator[None]:
    """Turn the operating system's ways to say "full" into `DiskFullError`; `what` is what was being written."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise DiskFullError(
                f"{what} does not fit: {error.strerror or error}; it was dropped whole and what was finished before it "
                "is untouched; make room and record it again"
            ) from error
        raise
