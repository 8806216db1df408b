"""Files that appear under their name only when they are complete, and stay when the power goes."""

from __future__ import annotations

import os
from pathlib import Path


def synchronise(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(partial: Path, target: Path) -> None:
    """Give a complete file its name in one step, in place of what had it; the folder is made where it is missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    synchronise(partial)
    os.replace(partial, target)  # noqa: PTH105 (one call of the system: the tests break off at every one of them)
    synchronise(target.parent)


def write_whole(target: Path, content: bytes) -> None:
    """Write a small file in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        publish(partial, target)
    finally:
        partial.unlink(missing_ok=True)
