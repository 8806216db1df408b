"""What Ctrl-C does: once, the command ends in order; twice, it ends."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM)


def interrupt_on_signals() -> None:
    """Let the first SIGINT or SIGTERM raise KeyboardInterrupt in the main thread, and the next one end the process.

    Whatever ends the command ends what it has started, as Ctrl-C does, also where a shell has it ignore that. The
    second one is left to the kernel: Python would not see it while a library that is closing waits for something that
    does not come. The nodes of a graph end when the process that started them does.
    """
    for number in ENDING:
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    for each in ENDING:
        signal.signal(each, signal.SIG_DFL)
    raise KeyboardInterrupt
