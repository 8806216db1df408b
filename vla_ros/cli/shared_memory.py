"""What Fast DDS leaves behind in shared memory: segments of processes that were killed; finding and removing them.

A participant takes its segment (64 MiB by this package's profile) as a file of /dev/shm, and a process that ends in
order removes it. One that is killed does not, and nobody does it later: crashes fill the memory of a machine.

A file is left over when no process that can be looked into has it, or its lock, open or mapped. Processes are known by
/proc; those of other users cannot be looked into, nor are those of another container seen that shares /dev/shm. For
them speaks the lock that Fast DDS holds on `<segment>_el` and `<port>_sl` as long as it lives.
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
"""How the names of Fast DDS' files begin; nothing else is looked at."""

_LOCKS = ("_el", "_sl")
_DELETED = " (deleted)"


class SharedMemoryError(VlaError):
    """Which files are in use could not be found out, so nothing is said about them and nothing is removed."""


@dataclass(frozen=True)
class Leftovers:
    """Files of dead processes.

    Attributes:
        files: Where they are, in the order of their names.
        size: What they take, bytes.
        foreign: How many of them belong to other users, who alone may remove them.
        hidden: Living processes that could not be looked into: other users', or with more rights than this one.
    """

    files: tuple[Path, ...]
    size: int
    foreign: int
    hidden: int


def find_leftovers(folder: Path = FOLDER, proc: Path = PROC) -> Leftovers:
    """Return the files in `folder` that no process under `proc` uses.

    Raises:
        SharedMemoryError: when processes cannot be looked into.
    """
    files = _files(folder)  # before the processes: a file that is made meanwhile is not among them
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
    """Remove the files of this user that no process uses, and return what was removed.

    Raises:
        SharedMemoryError: when processes cannot be looked into; nothing was removed then.
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
    """Return the status of a file, or None when it is none any more."""
    try:
        return file.lstat() if file.is_file() else None
    except OSError:
        return None


def _owner_of(name: str) -> str:
    """Return the name of the segment or port that a file belongs to: while one of them is in use, all are."""
    for ending in _LOCKS:
        name = name.removesuffix(ending)
    return name


def _is_locked(file: Path) -> bool:
    """Say whether a living process, also one that cannot be seen, holds a lock that belongs to `file`."""
    for ending in _LOCKS:
        lock = file.with_name(_owner_of(file.name) + ending)
        try:
            descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError:
            return True  # nobody can say that it is free
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
    return False


def _used_names(proc: Path) -> tuple[set[str], int]:
    """Return the names of Fast DDS' files that processes use, and how many processes could not be looked into.

    The folder is left out of account: a process in a container may know it by another path.
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
            continue  # it has ended meanwhile
        except PermissionError:  # another user's, or one with more rights than this process
            hidden += 1
        except OSError as error:
            raise SharedMemoryError(
                f"{process} cannot be read ({error}): which files it uses is not known; try again"
            ) from error
    if not looked_into:
        raise SharedMemoryError(f"{proc} shows no process that can be looked into: which files are in use is not known")
    return names, hidden


def _paths_of(process: Path) -> Iterator[str]:
    """Yield what a process has open, then what it has mapped: what is mapped in between was open before."""
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
