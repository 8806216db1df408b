"""Atomic, durable file writes: a file gets its name only when complete, and survives a power loss."""

from __future__ import annotations

import os
from pathlib import Path


def synchronise(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(partial: Path, target: Path) -> None:
    """Rename a complete file to `target` atomically, replacing any old one; create the folder if it is missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    synchronise(partial)
    os.replace(partial, target)  # noqa: PTH105 (one system call: the tests interrupt at each of them)
    synchronise(target.parent)


def write_whole(target: Path, content: bytes) -> None:
    """Write a small file atomically."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        publish(partial, target)
    finally:
        partial.unlink(missing_ok=True)
