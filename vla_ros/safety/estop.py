"""The emergency stop as a signal that comes over a network: pressed, or lost, which is the same."""

from __future__ import annotations

import threading

from vla_ros.errors import ContractError

LONGEST_TIMEOUT = 10.0
"""A button that may be silent for longer, s, does not speak at all."""


class EstopSignal:
    """Takes what comes in any thread; `take` tells the control thread what to do about it."""

    def __init__(self, timeout: float = 0.0) -> None:
        """Treat silence of `timeout` s after the first message as pressed; 0 for buttons that speak only when used.

        Raises:
            ContractError: when `timeout` is no number from 0 to `LONGEST_TIMEOUT`: silence would never count.
        """
        if not 0.0 <= timeout <= LONGEST_TIMEOUT:
            raise ContractError(
                f"estop_timeout is {timeout}, expected 0 to {LONGEST_TIMEOUT:.0f} s: the silence after which a button "
                "that speaks counts as pressed, or 0 for one that speaks only when used"
            )
        self._timeout = timeout
        self._lock = threading.Lock()
        self._down = False
        self._pressed_since_taken = False
        self._heard: float | None = None
        self._seen_publisher = False
        self._lost = False

    def receive(self, pressed: bool, now: float) -> None:
        """Take a message of the button at `now`, s, steady clock."""
        with self._lock:
            self._heard, self._seen_publisher = now, True
            self._down = pressed
            self._pressed_since_taken = self._pressed_since_taken or pressed

    def publishers(self, count: int) -> None:
        """Take how many publishers of the signal there are."""
        with self._lock:
            self._seen_publisher = self._seen_publisher or count > 0
            self._lost = self._seen_publisher and count == 0

    def take(self, now: float) -> bool:
        """Return whether the stop counts as pressed, also when it was only tapped since the last call."""
        with self._lock:
            tapped, self._pressed_since_taken = self._pressed_since_taken, False
            silent = self._timeout > 0.0 and self._heard is not None and not now - self._heard <= self._timeout
            return self._down or tapped or self._lost or silent
