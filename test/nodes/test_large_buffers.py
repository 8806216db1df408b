"""Copies of images reuse memory: counted in page faults, which no load of the machine changes."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from vla_ros.ros.dds.large_buffers import retain_large_buffers
if sys.argv[1] == "keep":
    assert retain_large_buffers()
def copies(number):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(number):
        held = [bytearray(6_220_800) for _ in range(4)]  # images in flight at 1920x1080
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
copies(4)
print(copies(20))
"""
PAGES = 20 * 4 * 6_220_800 // 4096


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's allocator")
def test_large_buffers_are_kept() -> None:
    assert faults("leave") > PAGES / 2, "the allocator keeps them by itself: there is nothing to gain"
    assert faults("keep") < PAGES / 20
