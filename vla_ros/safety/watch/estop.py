"""Emergency stop signal over the network, with a separate state per publisher.

true from any publisher       pressed
false                         releases what the same publisher pressed, and nothing else
publisher disappears          pressed until reset; afterwards it has no vote
heartbeat mode                silence of any button counts as pressed, also of one that is present but has never
                              published; nothing can be armed without a publishing button
queue overrun                 pressed: a true may be among the lost messages
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vla_ros.errors import ContractError

LONGEST_TIMEOUT = 10.0
"""Maximum heartbeat timeout, s; a button that may be silent for longer has no heartbeat."""

DISCOVERY = 1.0
"""Maximum time from a first message to the discovery of its publisher, s; an undiscovered one has then gone."""

OVERRUN_MEMORY = 1.0
"""Time for which a queue overrun counts as pressed, s: the lost messages are not repeated."""

MOST_BUTTONS = 32
"""Maximum number of distinct publishers; more count as pressed."""

_NAMELESS: Mapping[bytes, str] = MappingProxyType({})


@dataclass
class _Button:
    """State of one publisher."""

    name: str = ""
    down: bool = False
    since: float | None = None  # discovered at, s, steady clock; None before discovery
    heard: float | None = None
    present: bool = False
    gone: bool = False


class EstopSignal:
    """Receives messages in any thread; `take` reports to the control thread."""

    def __init__(self, timeout: float = 0.0) -> None:
        """Treat silence of `timeout` s as pressed; 0 for buttons that publish only when used.

        Raises:
            ContractError: as for `set_timeout`.
        """
        self._lock = threading.Lock()
        self._buttons: dict[bytes, _Button] = {}
        self._tapped = self._crowded = False
        self._unheard = ""
        self._overrun = -math.inf
        self.set_timeout(timeout)

    def set_timeout(self, timeout: float) -> None:
        """Treat silence of `timeout` s as pressed from now on; received state is kept.

        Raises:
            ContractError: when `timeout` is not a number from 0 to `LONGEST_TIMEOUT`: silence would never count.
        """
        if not 0.0 <= timeout <= LONGEST_TIMEOUT:
            raise ContractError(
                f"estop_timeout is {timeout}, expected 0 to {LONGEST_TIMEOUT:.0f} s: the silence after which a button "
                "that speaks counts as pressed, or 0 for one that speaks only when used"
            )
        with self._lock:
            self._timeout = timeout

    def receive(self, pressed: bool, now: float, gid: bytes = b"") -> None:
        """Handle a message of the publisher `gid` received at `now`, s, steady clock."""
        with self._lock:
            button = self._button(gid)
            button.heard, button.down, button.gone = now, pressed, False
            self._tapped = self._tapped or pressed

    def tap(self) -> None:
        """Handle a press sent before the newest received message: it counts, and so does the newer message."""
        with self._lock:
            self._tapped = True

    def overrun(self, now: float) -> None:
        """Handle a queue overrun by `now`, s, steady clock: more messages came than are kept."""
        with self._lock:
            self._tapped, self._overrun = True, now

    def publishers(self, gids: Collection[bytes], now: float, names: Mapping[bytes, str] = _NAMELESS) -> None:
        """Update the signal's publishers at `now`, s, steady clock, and their names by GID."""
        with self._lock:
            for gid in gids:
                button = self._button(gid)
                button.name = names.get(gid, button.name)
                button.present, button.gone = True, False
                if button.since is None:
                    button.since = now
            for gid, button in self._buttons.items():
                known = button.present or (button.heard is not None and now - button.heard > DISCOVERY)
                if gid not in gids and known:
                    button.gone, button.present = True, False

    def cannot_hear(self, sentence: str) -> None:
        """Set why a publisher of the topic cannot be received, such as its type; "" when all can be."""
        with self._lock:
            self._unheard = sentence

    def take(self, now: float) -> bool:
        """Return whether the stop counts as pressed, including a tap since the last call."""
        with self._lock:
            tapped, self._tapped = self._tapped, False
            return tapped or bool(self._why(now))

    def why(self, now: float) -> str:
        """Return why the stop counts as pressed at `now`, s; "" when it does not."""
        with self._lock:
            return self._why(now)

    def missing(self, now: float) -> str:
        """Return why arming is not allowed at `now`, s, besides a pressed button; "" when it is."""
        with self._lock:
            if self._timeout == 0.0 or any(self._speaks(button, now) for button in self._buttons.values()):
                return ""
            return f"no emergency stop has been heard, and estop_timeout ({self._timeout:g} s) asks for one that speaks"

    def forget_gone(self) -> None:
        """Forget publishers that have disappeared: by resetting, the operator confirms that they are not needed."""
        with self._lock:
            self._buttons = {gid: button for gid, button in self._buttons.items() if not button.gone}
            self._crowded = False

    def _button(self, gid: bytes) -> _Button:
        if gid not in self._buttons and len(self._buttons) >= MOST_BUTTONS:
            self._crowded = True
            return _Button()
        return self._buttons.setdefault(gid, _Button())

    def _speaks(self, button: _Button, now: float) -> bool:
        return button.heard is not None and 0.0 <= now - button.heard <= self._timeout and not button.gone

    def _silent(self, button: _Button, now: float) -> bool:
        """Return whether a button is overdue; a newly discovered one gets `DISCOVERY` in addition."""
        if self._timeout == 0.0 or self._speaks(button, now):
            return False
        if button.heard is None and button.since is not None:
            return not now - button.since <= DISCOVERY + self._timeout
        return True

    def _why(self, now: float) -> str:
        if self._unheard:
            return self._unheard
        if self._crowded:
            return f"more than {MOST_BUTTONS} publishers of the emergency stop"
        if now - self._overrun < OVERRUN_MEMORY:
            return "more messages came than are kept, and a press may have been among those that were lost"
        buttons = self._buttons.values()
        if down := [button for button in buttons if button.down]:
            return f"{_named(down)} is pressed"
        if gone := [button for button in buttons if button.gone]:
            return f"the publisher of {_named(gone)} has gone"
        if silent := [button for button in buttons if self._silent(button, now)]:
            return f"{_named(silent)} has been silent for more than {self._timeout:g} s"
        return ""


def _named(buttons: Iterable[_Button]) -> str:
    """Return the buttons as the subject of a sentence."""
    names = sorted({button.name for button in buttons if button.name})
    return f"the button of {' and '.join(names)}" if names else "a button"
