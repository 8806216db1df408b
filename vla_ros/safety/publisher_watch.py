"""Who publishes a topic that has one publisher: the one that is followed, one that took its place, or several."""

from __future__ import annotations

PATIENCE = 1.0
"""A publisher that was heard within this time, s, is there; one that was killed is silent, whatever the graph says."""

PARTICIPANT = 12
"""Bytes of a GID that all publishers of one process have in common (DDSI-RTPS 9.3.1: the prefix of a GUID)."""

MOST_PUBLISHERS = 32
"""Publishers that are remembered."""


class PublisherWatch:
    """Follows one publisher of a topic by its GID: names are what anybody may give itself."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """Follow the first publisher that is heard, and another one when that one has been silent for `patience` s."""
        self._patience = patience
        self._followed: bytes | None = None
        self._heard: dict[bytes, float] = {}
        self._other: tuple[bytes, float] | None = None  # publisher of another process than the owner's, and when, s

    @property
    def participant(self) -> bytes | None:
        """Return what the GIDs of the followed publisher's process begin with, or None."""
        return None if self._followed is None else self._followed[:PARTICIPANT]

    def receive(self, gid: bytes, now: float, owner: bytes | None = None) -> bool:
        """Take note of a message of publisher `gid` at `now`, s, steady clock; say whether it may be believed.

        With two publishers at once none is: nothing says which of them is the right one. Where the `owner` of the topic
        is known by its heartbeat (its `participant`), it alone is, however seldom it speaks.
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
        """Return the publishers that were heard within the patience before `now`, s, the followed one first."""
        there = [gid for gid, heard in self._heard.items() if 0.0 <= now - heard <= self._patience]
        return sorted(there, key=lambda gid: gid != self._followed)

    def conflict(self, now: float) -> list[bytes]:
        """Return the publishers when there are several at `now`, s, or another than the owner; else an empty list."""
        if self._other is not None and 0.0 <= now - self._other[1] <= self._patience:
            return [gid for gid in (self._followed, self._other[0]) if gid is not None]
        there = self.present(now)
        return there if len(there) > 1 else []
