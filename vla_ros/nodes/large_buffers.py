"""Keeps the memory of large messages in the process instead of returning it to the kernel with every image.

glibc takes each block over 128 kB (later up to 32 MB, as it learns) from the kernel and gives it back when it is freed,
so that every copy of an image touches pages that are new to the process, and each such page costs a fault. Between the
driver and the policy an image is copied about six times: at 1920x1080 two thirds of its age were page faults.
"""

from __future__ import annotations

import ctypes
import sys

LARGEST_BUFFER = 32 * 2**20
"""Blocks up to this size come from memory that is kept, bytes; glibc accepts no more. A 4k image has 25 MB."""

KEPT = 128 * 2**20
"""Free memory that may stay in the process, bytes."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_large_buffers() -> bool:
    """Ask the allocator of this process to keep large blocks; False where it cannot be asked (no glibc)."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, LARGEST_BUFFER) and libc.mallopt(_M_TRIM_THRESHOLD, KEPT))
