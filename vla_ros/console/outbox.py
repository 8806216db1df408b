"""Queue for a slow reader: the newest item per topic, and a few answers. Used from one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

Content = TypeVar("Content", str, bytes)

ANSWERS = 32
"""Maximum number of queued answers per connection; a client that does not read loses the oldest."""


class Outbox(Generic[Content]):
    """Holds at most one item per topic and `ANSWERS` answers, which are sent first."""

    def __init__(self) -> None:
        """Begin empty."""
        self._newest: dict[str, Content] = {}
        self._answers: deque[Content] = deque(maxlen=ANSWERS)
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of queued items."""
        return len(self._newest) + len(self._answers)

    def put(self, topic: str, content: Content) -> None:
        """Replace the queued item of `topic`, keeping its place in the queue."""
        self._newest[topic] = content
        self._filled.set()

    def answer(self, content: Content) -> None:
        """Queue an answer, in order."""
        self._answers.append(content)
        self._filled.set()

    async def get(self) -> Content:
        """Wait for the next item and remove it."""
        while not len(self):
            self._filled.clear()
            await self._filled.wait()
        if self._answers:
            return self._answers.popleft()
        return self._newest.pop(next(iter(self._newest)))
