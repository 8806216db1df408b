"""A place before others on a machine that is short of processors, as far as the system grants it.

Linux shares processors in three steps: threads with a real-time priority come first; then it shares among sessions
(each "autogroup" the same, however nice its threads are), then among the threads of a session. A node that has a
session of its own therefore needs both of the latter; in a session that it shares, the first would be a favour for
everybody in it, and is left alone.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
TASKS = Path("/proc/self/task")
REALTIME = (os.SCHED_FIFO, os.SCHED_RR)


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


ONE_PROCESSOR = (
    "this process may run on one processor only, and a control loop that overruns would keep everything else from it, "
    "the emergency stop included; let it run on two (taskset, cpuset)"
)
NOT_GRANTED = (
    "the system does not grant it; allow it with 'rtprio' in /etc/security/limits.d, in a container with "
    "--cap-add SYS_NICE"
)


def take_realtime(priority: int) -> str:
    """Let every thread of this process, and those that it starts from now on, run before all that is not real-time.

    First in, first out: nothing but a higher real-time priority puts such a thread aside (sched(7)). All of them, since
    one that is preempted while it holds the interpreter's lock, or one of the middleware's, keeps the others waiting.
    For the same reason without SCHED_RESET_ON_FORK, which resets threads as well as processes: a process is started in
    `ordinary_thread`. A quota of a control group (cpu.max) is no obstacle: it is for threads that are not real-time.

    Args:
        priority: 1 (last among real-time threads) to 99.

    Returns:
        "" when the system granted it: RLIMIT_RTPRIO allows it, or the process has CAP_SYS_NICE. Else why there is none,
        as the rest of a sentence; then no thread has it.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return ONE_PROCESSOR
    try:
        for task in TASKS.iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        give_realtime_back()
        return NOT_GRANTED
    return ""


def give_realtime_back() -> None:
    """Let no thread of this process have a real-time priority any more."""
    for task in TASKS.iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if os.sched_getscheduler(int(task.name)) in REALTIME:
                os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))


@contextlib.contextmanager
def ordinary_thread() -> Iterator[None]:
    """Let this thread, and a process that it starts, have no real-time priority for the time being."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    if policy == os.SCHED_OTHER:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the right to it was taken away meanwhile
            os.sched_setscheduler(0, policy, parameters)
