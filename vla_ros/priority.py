"""Scheduling priority of this process on a machine short of CPUs, as far as the system permits.

Linux schedules in three stages: threads with a real-time priority come first; then CPU time is divided equally among
sessions (each "autogroup", whatever the niceness of its threads), then among the threads of a session. A node with its
own session therefore sets the niceness of both the autogroup and its threads; in a shared session the autogroup's would
favor every process in it, and is left unchanged.
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
    """Set the niceness, -20 (first) to 19 (last), of this process's session and of this thread.

    Threads started by this one afterwards inherit it. Without the permission nothing happens.
    """
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            AUTOGROUP.write_text(str(niceness), encoding="ascii")
    prefer_thread(niceness)


def prefer_thread(niceness: int) -> None:
    """Set the niceness of this thread, and of threads that it starts afterwards, within its session."""
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


def enable_realtime(priority: int) -> str:
    """Give every thread of this process, and threads started afterwards, a real-time priority.

    First in, first out: only a higher real-time priority preempts such a thread (sched(7)). It must be all threads: one
    preempted while it holds the interpreter's lock, or one of the middleware's, keeps the others waiting. For the same
    reason SCHED_RESET_ON_FORK is not used, because it resets threads as well as processes: start a process in
    `without_realtime`. A control group's quota (cpu.max) does not matter: it applies to threads that are not real-time.

    Args:
        priority: 1 (last among real-time threads) to 99.

    Returns:
        "" when granted: RLIMIT_RTPRIO allows it, or the process has CAP_SYS_NICE. Otherwise the reason why not, as the
        end of a sentence; then no thread has the priority.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return ONE_PROCESSOR
    try:
        for task in TASKS.iterdir():
            with contextlib.suppress(ProcessLookupError):  # the thread has ended meanwhile
                os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        disable_realtime()
        return NOT_GRANTED
    return ""


def disable_realtime() -> None:
    """Remove the real-time priority from every thread of this process."""
    for task in TASKS.iterdir():
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            if os.sched_getscheduler(int(task.name)) in REALTIME:
                os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))


@contextlib.contextmanager
def without_realtime() -> Iterator[None]:
    """Temporarily drop the real-time priority of this thread, and of processes that it starts."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    if policy == os.SCHED_OTHER:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the permission was revoked meanwhile
            os.sched_setscheduler(0, policy, parameters)
