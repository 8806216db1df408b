"""A place before others on a machine that is short of processors, as far as the system grants it.

Linux shares processors in two steps: among sessions (each "autogroup" the same, however nice its threads are), then
among the threads of a session. A node that has a session of its own therefore needs both; in a session that it shares,
the first would be a favour for everybody in it, and is left alone.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def prefer_process(niceness: int) -> None:
    """Set the niceness, -20 (first) to 19 (last), of this process' session and of this thread.

    Threads that this one starts from now on inherit it. Without the right to do so nothing happens.
    """
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            AUTOGROUP.write_text(str(niceness), encoding="ascii")
    prefer_thread(niceness)


def prefer_thread(niceness: int) -> None:
    """Set the niceness of this thread, and of those that it starts from now on, within its session."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
