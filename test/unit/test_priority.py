"""Real-time priority where the system grants it: every thread has it, and no process that must not."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, os, subprocess, sys, threading
from vla_ros.priority import disable_realtime, without_realtime, enable_realtime
stop = threading.Event()
early = threading.Thread(target=stop.wait, daemon=True)
early.start()
refused = enable_realtime(3)
late = threading.Thread(target=stop.wait, daemon=True)
late.start()
ask = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]
with without_realtime():
    child = int(subprocess.check_output(ask))
threads = [os.sched_getscheduler(thread.native_id) for thread in (threading.main_thread(), early, late)]
priority = os.sched_getparam(0).sched_priority
disable_realtime()
after = [os.sched_getscheduler(thread.native_id) for thread in (threading.main_thread(), early, late)]
stop.set()
print(json.dumps({"refused": refused, "child": child, "threads": threads, "priority": priority, "after": after}))
"""
FORBIDDEN = """
import ctypes, resource
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
libc = ctypes.CDLL(None, use_errno=True)
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # capability.h: version 3, this thread
assert libc.capget(header, sets) == 0
sets[0] &= ~(1 << 23)  # CAP_SYS_NICE, effective
assert libc.capset(header, sets) == 0
"""
OTHER, FIFO = 0, 1


def told(script: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60.0, check=True)
    return dict(json.loads(done.stdout))


def test_every_thread_has_it_and_a_process_that_is_started_as_an_ordinary_one_has_not() -> None:
    found = told(SCRIPT)
    assert found["child"] == OTHER
    assert found["threads"] == [OTHER if found["refused"] else FIFO] * 3
    assert found["priority"] == (0 if found["refused"] else 3)
    assert found["after"] == [OTHER] * 3


def test_without_the_right_to_it_nothing_happens() -> None:
    found = told(SCRIPT.replace("refused =", FORBIDDEN + "refused =", 1))
    assert "the system does not grant it" in str(found.pop("refused"))
    assert found == {"child": OTHER, "threads": [OTHER] * 3, "priority": 0, "after": [OTHER] * 3}


def test_on_one_processor_there_is_none() -> None:
    """A thread that never sleeps would keep everything else from it, the middleware's receivers included."""
    one = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    found = told(SCRIPT.replace("refused =", one + "refused =", 1))
    assert "one processor only" in str(found.pop("refused"))
    assert found == {"child": OTHER, "threads": [OTHER] * 3, "priority": 0, "after": [OTHER] * 3}
