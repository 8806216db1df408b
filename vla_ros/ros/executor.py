"""Single-threaded executor that waits only once per callback.

rclpy's executor triggers a guard condition in every callback, for threads of a pool that may be waiting meanwhile. With
a single thread nobody waits: the trigger only ends the next wait at once, so that all of a node's entities are
collected and waited for twice per message.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.task import Task

KNOWN = ("take_from_wait_list(entity)", "gc.trigger()", "self._tasks.append((task, entity, node))")
"""Source lines of rclpy's handler as of Jazzy; only a handler that contains them is replaced."""


def make_executor() -> SingleThreadedExecutor:
    """Return a `LeanExecutor`, or rclpy's own executor if its implementation is not the known one."""
    own = inspect.getsource(Executor._make_handler)
    return LeanExecutor() if all(line in own for line in KNOWN) else SingleThreadedExecutor()


class LeanExecutor(SingleThreadedExecutor):
    """`SingleThreadedExecutor` without that trigger; order, callback groups and coroutines are unchanged."""

    def _make_handler(self, entity: Any, node: Any, take_from_wait_list: Callable[[Any], Any]) -> Task:  # noqa: ANN401
        """Return the task that takes the data of `entity` and runs its callback."""
        entity._executor_event = True  # not waited for again before its data is taken

        async def handler() -> None:
            if self._is_shutdown or not entity.callback_group.beginning_execution(entity):
                entity._executor_event = False
                self._guard.trigger()  # data that was not taken must be checked again
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
