"""What waits for a slow reader: of each topic the newest, and a few answers. Used by one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

Content = TypeVar("Content", str, bytes)

ANSWERS = 32
"""Answers in the queue of a connection; a client that does not read loses the oldest."""


class Outbox(Generic[Content]):
    """At most one item a topic, whatever comes in, and `ANSWERS` answers, which go first."""

    def __init__(self) -> None:
        """Begin empty."""
        self._newest: dict[str, Content] = {}
        self._answers: deque[Content] = deque(maxlen=ANSWERS)
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._newest) + len(self._answers)

    def put(self, topic: str, content: Content) -> None:
        """Replace what waits of `topic`; its turn stays."""
        self._newest[topic] = content
        self._filled.set()

    def answer(self, content: Content) -> None:
        """Let an answer wait, in order."""
        self._answers.append(content)
        self._filled.set()

    async def get(self) -> Content:
        """Wait for the next item and take it out."""
        while not len(self):
            self._filled.clear()
            await self._filled.wait()
        if self._answers:
            return self._answers.popleft()
        return self._newest.pop(next(iter(self._newest)))
