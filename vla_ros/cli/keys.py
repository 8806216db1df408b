"""Read single keys from a terminal without waiting for Enter; restore the terminal afterwards."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vla_ros.errors import ContractError

_NAMED_KEYS = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])")
"""Escape sequences of arrow and function keys; they begin with the Escape character and would be mistaken for it."""

MOST_WAITING = 1000


class Keys:
    """Reads keys from a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Read from `descriptor`."""
        self._descriptor = descriptor

    def read(self, timeout: float) -> str:
        """Return the keys received within `timeout` s, "" if none. Arrow and function keys are dropped."""
        ready, _, _ = select.select([self._descriptor], [], [], timeout)
        return _NAMED_KEYS.sub("", os.read(self._descriptor, 64).decode(errors="ignore")) if ready else ""

    def read_waiting(self) -> str:
        """Return the pending keys. Does at most `MOST_WAITING` reads, so that it also ends while a key is held down."""
        found = ""
        for _ in range(MOST_WAITING):
            if not (some := self.read(0.0)):
                break
            found += some
        return found


@contextmanager
def single_keys() -> Iterator[Keys]:
    """Yield the terminal's keys one by one.

    Raises:
        ContractError: when standard input is not a terminal.
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
