"""Admits only tasks whose instruction was received after a stop that the safety layer received directly.

Such a stop has no sequence number among the tasks, and the instruction node may hang, be slow, or have other
instructions queued. So a task's number does not show whether it was requested before or after the stop. The order in
which the instructions arrive here does, without any clock of this machine or another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Task = TypeVar("Task")

MEMORY = 64
"""Maximum number of instructions remembered since the stop, the newest; a task of a forgotten one must be repeated."""


class TaskOrder(Generic[Task]):
    """Admits tasks in the order of their numbers. For a single thread."""

    def __init__(self) -> None:
        """Start without a stop: every task is admitted, even one from before this layer started."""
        self._stopped = False
        self._unread: deque[Callable[[], Hashable | None]] = deque(maxlen=MEMORY)
        self._since: dict[Hashable, None] = {}
        self._waiting: tuple[Hashable, Task] | None = None

    def stop(self) -> None:
        """Record a stop: from now on, a task is admitted only if its instruction was received after it."""
        self._stopped, self._waiting = True, None
        self._unread.clear()
        self._since.clear()

    def hear(self, read: Callable[[], Hashable | None]) -> None:
        """Record an instruction.

        Args:
            read: Returns the key of its task, or None when no task can result. Called only when a task must be judged,
                so that a flood of instructions costs little.
        """
        if self._stopped:
            self._unread.append(read)

    def admit(self, tasks: Sequence[tuple[Hashable, Task]]) -> list[Task]:
        """Return the admitted tasks, each once.

        Args:
            tasks: (key, task) received since the last call, oldest first. The newest one whose instruction has not been
                received waits for it, since the instruction may take another path.
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
