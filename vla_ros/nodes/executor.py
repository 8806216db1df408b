"""An executor for one thread that waits once for each callback.

rclpy's own triggers a guard condition of its own with each callback, for the threads of a pool that may wait meanwhile.
Where there is one thread, nobody waits: the trigger only ends the next wait at once, and everything that a node has is
gathered and waited for twice for each message.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.task import Task

KNOWN = ("take_from_wait_list(entity)", "gc.trigger()", "self._tasks.append((task, entity, node))")
"""What rclpy's own handler is made of where it can be replaced: that of Jazzy."""


def make_executor() -> SingleThreadedExecutor:
    """Return the executor of a node: this one, or rclpy's own where that works in another way than is known here."""
    own = inspect.getsource(Executor._make_handler)
    return LeanExecutor() if all(line in own for line in KNOWN) else SingleThreadedExecutor()


class LeanExecutor(SingleThreadedExecutor):
    """`SingleThreadedExecutor` without that; order, callback groups and coroutines are as there."""

    def _make_handler(self, entity: Any, node: Any, take_from_wait_list: Callable[[Any], Any]) -> Task:  # noqa: ANN401
        """Return the task that takes what has come for `entity`, and runs its callback."""
        entity._executor_event = True  # not waited for again before it is taken

        async def handler() -> None:
            if self._is_shutdown or not entity.callback_group.beginning_execution(entity):
                entity._executor_event = False
                self._guard.trigger()  # what was not taken must be looked at again
                return
            with self._work_tracker:
                try:
                    callback = take_from_wait_list(entity)
                    entity._executor_event = False
                    if callback is not None:
                        await callback()
                finally:
                    entity._executor_event = False
                    entity.callback_group.ending_execution(entity)

        task = Task(handler, executor=self)
        with self._tasks_lock:
            self._tasks.append((task, entity, node))
        return task
