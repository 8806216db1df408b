"""Find and remove the shared memory that Fast DDS leaves behind when a process is killed.

Each participant creates its segment (64 MiB in this package's profile) as a file in /dev/shm and removes it on an
orderly exit. A killed process does not, and nothing else does: crashes fill the machine's memory.

A file is left over if no process that can be inspected has it, or its lock file, open or mapped. Processes are
inspected through /proc. Other users' processes cannot be inspected, and those of another container that shares /dev/shm
cannot be seen; for them the lock decides that Fast DDS holds on `<segment>_el` and `<port>_sl` while it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_ros.errors import VlaError

FOLDER = Path("/dev/shm")
PROC = Path("/proc")

NAMES = ("fastrtps_", "fast_datasharing_")
"""Prefixes of Fast DDS file names; other files are never considered."""

_LOCKS = ("_el", "_sl")
_DELETED = " (deleted)"


class SharedMemoryError(VlaError):
    """The files in use could not be determined, so nothing is reported or removed."""


@dataclass(frozen=True)
class Leftovers:
    """Files of dead processes.

    Attributes:
        files: Their paths, sorted by name.
        size: Total size on disk, bytes.
        foreign: Number of files of other users; only their owners (or root) may remove them.
        hidden: Number of live processes that cannot be inspected: other users', or more privileged than this one.
    """

    files: tuple[Path, ...]
    size: int
    foreign: int
    hidden: int


def find_leftovers(folder: Path = FOLDER, proc: Path = PROC) -> Leftovers:
    """Return the files in `folder` that no process under `proc` uses.

    Raises:
        SharedMemoryError: when processes cannot be inspected.
    """
    files = _files(folder)  # listed before the processes, so that a file created meanwhile is not included
    used, hidden = _used_names(proc)
    busy = {_owner_of(name) for name in used}
    left = []
    for file in files:
        if _owner_of(file.name) not in busy and not _is_locked(file):
            left.append(file)
    found = {file: stat for file in left if (stat := _stat(file)) is not None}
    foreign = sum(stat.st_uid != os.geteuid() for stat in found.values())
    return Leftovers(tuple(found), sum(512 * stat.st_blocks for stat in found.values()), foreign, hidden)


def remove_leftovers(folder: Path = FOLDER, proc: Path = PROC) -> Leftovers:
    """Remove this user's files that no process uses; return what was removed.

    Raises:
        SharedMemoryError: when processes cannot be inspected; nothing has been removed then.
    """
    found = find_leftovers(folder, proc)
    removed, size = [], 0
    for file in found.files:
        stat = _stat(file)
        if stat is None or stat.st_uid != os.geteuid():
            continue
        with contextlib.suppress(OSError):
            file.unlink()
            removed.append(file)
            size += 512 * stat.st_blocks
    return Leftovers(tuple(removed), size, found.foreign, found.hidden)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.name.startswith(NAMES) and not file.is_symlink())
    except OSError as error:
        raise SharedMemoryError(f"{folder} cannot be read: {error}") from error


def _stat(file: Path) -> os.stat_result | None:
    """Return the status of a file, or None if it no longer exists."""
    try:
        return file.lstat() if file.is_file() else None
    except OSError:
        return None


def _owner_of(name: str) -> str:
    """Return the segment or port name that a file belongs to: if one of its files is in use, all are."""
    for ending in _LOCKS:
        name = name.removesuffix(ending)
    return name


def _is_locked(file: Path) -> bool:
    """Return whether a live process, visible or not, holds a lock that belongs to `file`."""
    for ending in _LOCKS:
        lock = file.with_name(_owner_of(file.name) + ending)
        try:
            descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError:
            return True  # treat as locked: it cannot be checked
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
    return False


def _used_names(proc: Path) -> tuple[set[str], int]:
    """Return the names of Fast DDS files in use, and the number of processes that cannot be inspected.

    Folders are ignored, because a process in a container may see the file under another path.
    """
    names: set[str] = set()
    looked_into, hidden = 0, 0
    try:
        processes = [entry for entry in proc.iterdir() if entry.name.isdigit()]
    except OSError as error:
        raise SharedMemoryError(f"{proc} cannot be read ({error}): which files are in use is not known") from error
    for process in processes:
        try:
            names.update(_names_in(_paths_of(process)))
            looked_into += 1
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process has ended meanwhile
        except PermissionError:  # another user's process, or one more privileged than this
            hidden += 1
        except OSError as error:
            raise SharedMemoryError(
                f"{process} cannot be read ({error}): which files it uses is not known; try again"
            ) from error
    if not looked_into:
        raise SharedMemoryError(f"{proc} shows no process that can be looked into: which files are in use is not known")
    return names, hidden


def _paths_of(process: Path) -> Iterator[str]:
    """Yield the files a process has open, then those it has mapped: a file mapped in between was open before."""
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(descriptor.readlink())
    with (process / "maps").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            yield line.rstrip("\n").partition("/")[2]


def _names_in(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        name = path.removesuffix(_DELETED).rpartition("/")[2]
        if name.startswith(NAMES):
            yield name
