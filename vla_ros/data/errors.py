"""Errors of data sets, one class per kind; messages name the data set, the episode and the place."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from vla_ros.errors import VlaError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""OS errors for a full disk, an exhausted quota and the largest file size."""


class DataError(VlaError):
    """A data set cannot be read or written as asked."""


class DamagedDataError(DataError):
    """A file is truncated, or its checksum or its own counts do not match."""


class TruncatedVideoError(DamagedDataError):
    """A video ends before the last frame of an episode, or cannot be opened at all."""


class MissingColumnError(DataError):
    """A column, field or camera that the reader needs is missing."""


class NotFiniteError(DataError):
    """A number is NaN or infinite."""


class ConventionError(DataError):
    """The actions have another action space than requested, or do not declare one."""


class HostileDataError(DataError):
    """A file asks for code outside the list of known classes; none of it was run."""


class DiskFullError(DataError):
    """The disk is full; the incomplete write is discarded, everything finished before is untouched."""


class RecordingGapError(DataError):
    """A recording lacks observations for longer than the allowed gap between steps."""


class UnusableEpisodeError(DataError):
    """One episode is unusable for training; others of its data set may be sound."""


class DatasetBusyError(DataError):
    """Another process writes to the same data set."""


@contextmanager
def disk_full_errors(what: str) -> Iterator[None]:
    """Turn the OS errors for a full disk into `DiskFullError`; `what` names the thing being written."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise DiskFullError(
                f"{what} does not fit: {error.strerror or error}; it was dropped whole and what was finished before it "
                "is untouched; make room and record it again"
            ) from error
        raise
