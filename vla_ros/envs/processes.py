"""Runs work in several processes, each with its own expensive resource, such as a workcell or a policy.

Any failure ends the work with an error, including a resource that cannot be built, and a process that is killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from vla_ros.errors import VlaError

Setting = TypeVar("Setting")
Tool = TypeVar("Tool")
Item = TypeVar("Item")
Result = TypeVar("Result")


def work_in_processes(
    make: Callable[[Setting], Tool],
    setting: Setting,
    work: Callable[[Tool, Item], Result],
    items: Iterable[Item],
    processes: int,
    *,
    ordered: bool = True,
) -> Iterator[Result]:
    """Yield `work(make(setting), item)` for each item; `make` is called once per process.

    All arguments and results must be picklable. Items not started are skipped when the iteration ends early.

    Args:
        make: Builds the resource of a process.
        setting: Argument of `make`.
        work: Processes one item with the resource.
        items: One call of `work` each.
        processes: Largest number of parallel processes.
        ordered: Keep the order of the items; otherwise yield each result as soon as it is available.

    Raises:
        VlaError: when a process was killed, or exited.
        Exception: any exception raised by `make` or `work`.
    """
    items = list(items)
    if not items:
        return
    context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
    pool = ProcessPoolExecutor(min(processes, len(items)), context, _start, (make, setting))
    try:
        with interrupts_held():
            futures: list[Future[Result]] = [pool.submit(_work, work, item) for item in items]
        for future in futures if ordered else as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise VlaError(
            "a process at work ended by itself, most often killed because memory ran out; run it again with fewer "
            "--processes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Block Ctrl-C in processes started inside, until they call `end_when_interrupted`.

    A terminal interrupts them all. A process that is still importing its libraries, or waiting for work, would print a
    traceback that is irrelevant to the user. This process handles its own interrupt when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_when_interrupted() -> None:
    """Let Ctrl-C end this process silently; call it first in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


_tool: Any = None
_failure: Exception | None = None


def _start(make: Callable[[Setting], Tool], setting: Setting) -> None:
    """Build this process's resource; keep an error for its first item, because raised here it would be lost."""
    global _tool, _failure
    end_when_interrupted()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _tool = make(setting)
    except Exception as error:
        _failure = error


def _end_with_parent() -> None:
    """Exit when the parent process is gone: nobody is left to assign work, or to stop this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(work: Callable[[Tool, Item], Result], item: Item) -> Result:
    if _failure is not None:
        raise _failure
    return work(_tool, item)
