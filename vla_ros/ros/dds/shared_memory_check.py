"""Refuse to load ROS 2 where that would kill the process: the shared-memory folder is full.

rclpy loads LTTng's tracing library, which maps one page in each of two files of /dev/shm. If a page is not available,
the kernel ends the process with SIGBUS, before any Python code could say why. Measured with Jazzy: with less than 8 KiB
the import of rclpy crashes; with more it does not, and Fast DDS, whose segment takes 0.55 MB by default and 70.3 MB by
config/dds/shared_memory.xml, logs that it does not fit and continues with UDP.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from vla_ros.ros.dds.environment_check import RosEnvironmentError

FOLDER = Path("/dev/shm")

TRACE_FILES = "lttng-ust-wait-*"
"""LTTng's files: a common one, `lttng-ust-wait-6`, and one per user, `lttng-ust-wait-6-<uid>`; 6 is the version."""

TRACE_PAGES = 2


class SharedMemoryFullError(RosEnvironmentError):
    """Shared memory has no room for the pages that importing rclpy maps."""


def missing_bytes(folder: Path = FOLDER) -> int:
    """Return how many bytes `folder` lacks for importing rclpy; 0 if it lacks none or does not exist."""
    try:
        status = os.statvfs(folder)
        own = f"-{os.getuid()}"
        mapped = [
            file
            for file in folder.glob(TRACE_FILES)
            if (file.name.count("-") == TRACE_FILES.count("-") or file.name.endswith(own)) and file.stat().st_blocks
        ]
    except OSError:
        return 0  # unreadable: assume that it is sufficient
    needed = max(TRACE_PAGES - len(mapped), 0) * mmap.PAGESIZE
    return max(needed - status.f_bavail * status.f_frsize, 0)


def require_shared_memory(folder: Path = FOLDER) -> None:
    """Check that importing rclpy would not crash.

    Raises:
        SharedMemoryFullError: when it would; says how much is missing and what to do.
    """
    if missing := missing_bytes(folder):
        raise SharedMemoryFullError(
            f"{folder} is full: ROS 2 needs {missing} bytes more of it to be loaded, and would be killed by SIGBUS "
            "without; free some ('vla-ros doctor --clean-shared-memory' removes what killed processes have left), or "
            "give it more (docker run --shm-size=1g, or mount -o remount,size=1g /dev/shm)"
        )
