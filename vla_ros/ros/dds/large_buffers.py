"""Keep the memory of large messages in the process instead of returning it to the kernel with every image.

glibc takes each block above 128 kB (later up to 32 MB, as it adapts) from the kernel and returns it when freed. Every
copy of an image then touches new pages, each at the cost of a page fault. An image is copied about six times between
driver and policy: at 1920x1080, page faults made up two thirds of its age.
"""

from __future__ import annotations

import ctypes
import sys

LARGEST_BUFFER = 32 * 2**20
"""Maximum block size that is served from retained memory, bytes; glibc accepts no more. A 4k image has 25 MB."""

KEPT = 128 * 2**20
"""Maximum free memory that stays in the process, bytes."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def retain_large_buffers() -> bool:
    """Make this process's allocator keep large blocks; return False if that is not possible (no glibc)."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, LARGEST_BUFFER) and libc.mallopt(_M_TRIM_THRESHOLD, KEPT))
