"""Ctrl-C handling: the first ends the command cleanly, the second kills it."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM)


def interrupt_on_signals() -> None:
    """Raise KeyboardInterrupt in the main thread on the first SIGINT or SIGTERM; let the second end the process.

    SIGTERM, too, must end everything the command has started, and so must SIGINT where the shell has set it to be
    ignored. The second signal has the kernel's default action, because Python would not see it while a library blocks
    in its shutdown. The nodes of a graph end when the process that started them does.
    """
    for number in ENDING:
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    for each in ENDING:
        signal.signal(each, signal.SIG_DFL)
    raise KeyboardInterrupt
