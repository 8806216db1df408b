"""Single keys from a terminal, without waiting for Enter; the terminal is as before when it is over."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vla_ros.errors import ContractError

_NAMED_KEYS = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])")
"""What arrows and function keys send; each begins like the Escape key and would be taken for it."""

MOST_WAITING = 1000


class Keys:
    """Keys as they come from a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Read from `descriptor`."""
        self._descriptor = descriptor

    def read(self, timeout: float) -> str:
        """Return the keys that came within `timeout` s; "" when none did. Arrows and function keys are left out."""
        ready, _, _ = select.select([self._descriptor], [], [], timeout)
        return _NAMED_KEYS.sub("", os.read(self._descriptor, 64).decode(errors="ignore")) if ready else ""

    def read_waiting(self) -> str:
        """Return the keys that wait to be read, at most `MOST_WAITING` reads of them, so that a held key ends it."""
        found = ""
        for _ in range(MOST_WAITING):
            if not (some := self.read(0.0)):
                break
            found += some
        return found


@contextmanager
def single_keys() -> Iterator[Keys]:
    """Give the keys of the terminal one by one.

    Raises:
        ContractError: when there is no terminal.
    """
    if not sys.stdin.isatty():
        raise ContractError("the keyboard is read from a terminal, and standard input is none; run this in a terminal")
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
