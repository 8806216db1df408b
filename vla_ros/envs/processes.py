"""Work in several processes, each with something of its own that is dear to make: a cell, a policy.

What goes wrong ends the work with an error, also where a process cannot make what it works with, or is killed.
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
    make: Callable[[Setting], Tool], setting: Setting, work: Callable[[Tool, Item], Result], items: Iterable[Item],
    processes: int, *, ordered: bool = True,
) -> Iterator[Result]:  # fmt: skip
    """Yield `work(make(setting), item)` of each item as it comes; `make` is called once a process.

    All that is given and returned must be picklable. What is not begun when the work ends early is left out.

    Args:
        make: Builds what a process works with.
        setting: What it is built from.
        work: What is done with it.
        items: One call of `work` each.
        processes: How many work at once, at most.
        ordered: Keep the order of the items; else each result comes as soon as it is there.

    Raises:
        VlaError: when a process was killed, or ended by itself.
        Exception: whatever `make` or `work` raised.
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
    """Let processes that are started in here not hear Ctrl-C before they call `end_when_interrupted`.

    A terminal interrupts them all. One that is still importing its libraries, or waits for work, would print a
    traceback that has nothing to do with what the user has asked for. The interrupt of this process comes when the
    block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_when_interrupted() -> None:
    """Let Ctrl-C end this process without a word; call it first in a process that works for another one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


_tool: Any = None
_failure: Exception | None = None


def _start(make: Callable[[Setting], Tool], setting: Setting) -> None:
    """Make what this process works with; an error is kept for its first item, for here it would be lost."""
    global _tool, _failure
    end_when_interrupted()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _tool = make(setting)
    except Exception as error:
        _failure = error


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: nobody would give it work any more, or stop it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(work: Callable[[Tool, Item], Result], item: Item) -> Result:
    if _failure is not None:
        raise _failure
    return work(_tool, item)
