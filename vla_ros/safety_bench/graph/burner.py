"""Generate CPU load with child processes, ended by their own handles."""

from __future__ import annotations

import subprocess
import sys
import time

PROGRAM = """
import os, sys, time
parent, end = os.getppid(), time.monotonic() + float(sys.argv[1])
while time.monotonic() < end and os.getppid() == parent:
    for _ in range(200000):
        pass
"""
"""Ends by itself when its time is up or its parent has gone."""

LONGEST = 3600.0


class Burner:
    """Keeps CPUs busy from construction until `close`."""

    def __init__(self, processes: int, longest: float = LONGEST) -> None:
        """Start `processes` of them; each ends after at most `longest` s."""
        self.began = time.monotonic()
        command = [sys.executable, "-c", PROGRAM, str(longest)]
        self._processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(processes)]

    def close(self) -> None:
        """Kill them."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(timeout=5.0)
        self._processes = []
