"""Watches the publisher of a topic that must have exactly one: the followed one, a replacement, or several."""

from __future__ import annotations

PATIENCE = 1.0
"""Time since the last message within which a publisher counts as present, s, regardless of the ROS graph."""

PARTICIPANT = 12
"""Number of leading GID bytes common to all publishers of a process (DDSI-RTPS 9.3.1: the GUID prefix)."""

MOST_PUBLISHERS = 32
"""Maximum number of publishers remembered."""


class PublisherWatch:
    """Follows one publisher of a topic by its GID: node names can be chosen by anybody."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """Follow the first publisher, and another one once that has been silent for `patience` s."""
        self._patience = patience
        self._followed: bytes | None = None
        self._heard: dict[bytes, float] = {}
        self._other: tuple[bytes, float] | None = None  # publisher of another process than the owner's, receipt, s

    @property
    def participant(self) -> bytes | None:
        """GID prefix of the followed publisher's process, or None."""
        return None if self._followed is None else self._followed[:PARTICIPANT]

    def receive(self, gid: bytes, now: float, owner: bytes | None = None) -> bool:
        """Record a message of publisher `gid` at `now`, s, steady clock; return whether to accept it.

        With two publishers at once none is accepted: the right one cannot be determined. Where the topic's `owner` is
        known from its heartbeat (its `participant`), only its messages are accepted, however rarely it publishes.
        """
        if owner is not None:
            if gid[:PARTICIPANT] != owner:
                self._other = gid, now
                return False
            self._followed = gid
            return True
        if gid not in self._heard and len(self._heard) >= MOST_PUBLISHERS:
            self._heard.pop(min(self._heard, key=self._heard.__getitem__))
        self._heard[gid] = now
        if len(self.present(now)) > 1:
            return False
        self._followed = gid
        return True

    def present(self, now: float) -> list[bytes]:
        """Return the publishers with a message within the patience before `now`, s, the followed one first."""
        there = [gid for gid, heard in self._heard.items() if 0.0 <= now - heard <= self._patience]
        return sorted(there, key=lambda gid: gid != self._followed)

    def conflict(self, now: float) -> list[bytes]:
        """Return the conflicting publishers at `now`, s: several at once, or one besides the owner; else empty."""
        if self._other is not None and 0.0 <= now - self._other[1] <= self._patience:
            return [gid for gid in (self._followed, self._other[0]) if gid is not None]
        there = self.present(now)
        return there if len(there) > 1 else []
