"""Which tasks are newer than a stop that the safety layer heard itself: those whose sentence it has heard since.

A stop that is heard directly has no number among the tasks, and the instruction node may hang, be slow, or have other
sentences before it. So the number of a task says nothing about whether it was asked for before that stop or after it.
What says so is the order in which the sentences themselves arrive here; no clock is needed, of this machine or another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Task = TypeVar("Task")

MEMORY = 64
"""Sentences since the stop that are remembered; of more, the newest. A task of a forgotten one must be said again."""


class TaskOrder(Generic[Task]):
    """Admits tasks, in the order of their numbers. One thread calls all of it."""

    def __init__(self) -> None:
        """Start with no stop heard: every task counts, also one from before this layer listened."""
        self._stopped = False
        self._unread: deque[Callable[[], Hashable | None]] = deque(maxlen=MEMORY)
        self._since: dict[Hashable, None] = {}
        self._waiting: tuple[Hashable, Task] | None = None

    def stop(self) -> None:
        """Take a stop: from now on, no task counts whose sentence has not been heard after it."""
        self._stopped, self._waiting = True, None
        self._unread.clear()
        self._since.clear()

    def hear(self, read: Callable[[], Hashable | None]) -> None:
        """Take a sentence.

        Args:
            read: Returns what tells its task from others, None when no task can come of it. It is called only when
                there is a task to be judged, so that a flood of sentences costs little.
        """
        if self._stopped:
            self._unread.append(read)

    def admit(self, tasks: Sequence[tuple[Hashable, Task]]) -> list[Task]:
        """Return those tasks that count, each once.

        Args:
            tasks: What has come since the last call, oldest first, each after what tells it from others. The newest one
                whose sentence has not been heard yet waits for it: the sentence may take another way.
        """
        if not self._stopped:
            return [task for _, task in tasks]
        admitted: list[Task] = []
        for key, task in [*([] if self._waiting is None else [self._waiting]), *tasks]:
            self._read()
            self._waiting = None
            if key in self._since:
                admitted.append(task)
            else:
                self._waiting = key, task
        return admitted

    def _read(self) -> None:
        while self._unread:
            key = self._unread.popleft()()
            if key is None:
                continue
            self._since.pop(key, None)
            self._since[key] = None
            if len(self._since) > MEMORY:
                del self._since[next(iter(self._since))]
