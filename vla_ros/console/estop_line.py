"""The console's emergency stop button: its published state, who pressed it, and the page watchdog.

It publishes at every tick, also while not pressed, so that a safety layer in heartbeat mode detects a console that
hangs. With a page timeout it is also a dead man's switch: it presses itself when the page in command loses its
connection or sends nothing for that time.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from vla_ros.console.errors import ConsoleError

LONGEST_PAGE_TIMEOUT = 60.0
SHORTEST_PAGE_TIMEOUT = 0.5
"""Range of the page timeout, s: silence of the page in command that counts as its loss. A page sends five beats a
second.
"""


class EstopLine:
    """One button. Thread-safe; messages are published in the order of the decisions."""

    def __init__(
        self, publish: Callable[[bool], None], page_timeout: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Publish the button's state with `publish`, which may raise.

        Args:
            publish: Sends true for pressed; called with a lock held.
            page_timeout: Silence of the page in command that presses the button, s; 0 disables the watchdog.
            clock: Monotonic clock, s.

        Raises:
            ConsoleError: when `page_timeout` is out of range.
        """
        if page_timeout != 0.0 and not SHORTEST_PAGE_TIMEOUT <= page_timeout <= LONGEST_PAGE_TIMEOUT:
            raise ConsoleError(
                f"the page timeout is {page_timeout} s, expected {SHORTEST_PAGE_TIMEOUT} to {LONGEST_PAGE_TIMEOUT} s, "
                "or 0: the loss of a page stops nothing"
            )
        self.page_timeout = page_timeout
        self._publish, self._clock = publish, clock
        self._lock = threading.Lock()
        self._pressed, self._presses, self._why = False, 0, ""
        self._failure = ""
        self._sent = -math.inf
        self._watched, self._name, self._heard = "", "", -math.inf

    def press(self, why: str) -> None:
        """Press the button and publish it at once; it stays pressed until `release`."""
        with self._lock:
            self._press(why)

    def release(self, seen: int) -> bool:
        """Release if `seen` is the current number of presses; return False and do nothing if it was pressed since."""
        with self._lock:
            if seen != self._presses:
                return False
            self._pressed, self._why = False, ""
            self._say()
            return True

    def watch(self, page: str, name: str) -> None:
        """Watch a page from now on, identified by its secret key; `name` is for display."""
        with self._lock:
            self._watched, self._name, self._heard = page, name, self._clock()

    def unwatch(self, page: str) -> None:
        """Stop watching this page: it has given up command."""
        with self._lock:
            if page == self._watched:
                self._watched = ""

    def lost(self, page: str) -> None:
        """Register that the connection of a page is lost."""
        with self._lock:
            if page == self._watched:
                self._lose("its connection is lost")

    def beat(self, page: object) -> None:
        """Register a beat; those of pages that are not watched are ignored."""
        with self._lock:
            if self._watched and page == self._watched:
                self._heard = self._clock()

    def tick(self) -> None:
        """Check the page in command and publish the button's state; call many times a second."""
        with self._lock:
            silence = self._clock() - self._heard
            if self._watched and self.page_timeout and not silence <= self.page_timeout:
                self._lose(f"it has said nothing for {silence:.1f} s")
            else:
                self._say()

    def state(self) -> dict[str, Any]:
        """Return the state, JSON-serializable."""
        with self._lock:
            age = self._clock() - self._sent
            return {
                "pressed": self._pressed,
                "presses": self._presses,
                "why": self._why,
                "failure": self._failure,
                "age": age if math.isfinite(age) else None,
                "page_timeout": self.page_timeout,
            }

    def _press(self, why: str) -> None:
        self._pressed, self._presses, self._why = True, self._presses + 1, why
        self._say()

    def _lose(self, how: str) -> None:
        self._watched = ""
        if self.page_timeout:
            self._press(f"{self._name} was in command, and {how}")

    def _say(self) -> None:
        try:
            self._publish(self._pressed)
        except Exception as error:  # the next tick retries; pages show that it cannot be sent
            self._failure = f"{type(error).__name__}: {error}"[:200]
            return
        self._failure, self._sent = "", self._clock()
