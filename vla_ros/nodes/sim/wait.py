"""Wait for a simulation in a coroutine of a node; the simulation may be slow, but must not stand still."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.service import Service
from rclpy.task import Future

from vla_ros.errors import SimulationError
from vla_ros.ros.messages.conversions import NANOSECONDS

PERIOD = 0.02
"""Period of checking a condition, s of the wall clock."""

STEP_TIMEOUT = 10.0
"""Timeout of a condition, s of simulation time."""

STALL_TIMEOUT = 10.0
"""Maximum wall-clock time without progress of simulation time, s."""


class Patience:
    """Distinguishes a slow simulation, which is waited for, from a stalled one."""

    def __init__(self) -> None:
        """Begin without a clock reading."""
        self._seen, self._since = -math.inf, math.inf

    def stalled(self, now: float, steady: float) -> bool:
        """Return whether simulation time `now`, s, has not advanced for `STALL_TIMEOUT` s on the `steady` clock."""
        if now != self._seen:
            self._seen, self._since = now, steady
        return steady - self._since > STALL_TIMEOUT


class SimulationWait:
    """Serves requests with coroutines that wait, and wakes them every `PERIOD` s until `close`.

    rclpy keeps a coroutine's callback group occupied until it ends. In the node's default group, a waiting coroutine
    would block the very clock, messages and timer that it waits for, and never wake up. The requests and the timer
    therefore use a separate reentrant group.
    """

    def __init__(self, node: Node) -> None:
        """Wait on the executor and clock of `node`."""
        self._node = node
        self._group = ReentrantCallbackGroup()
        self._waiting: list[Future] = []
        self._closed = False
        self._timer = node.create_timer(
            PERIOD, self._wake, callback_group=self._group, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def serve(self, kind: type, name: str, answer: Callable[[Any, Any], Any]) -> Service:
        """Create a service whose coroutine `answer` may await `until` and `next_tick`."""
        return self._node.create_service(kind, name, answer, callback_group=self._group)

    def now(self) -> float:
        """Return simulation time, s."""
        return float(self._node.get_clock().now().nanoseconds) / NANOSECONDS

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; `what` names it in the error.

        Raises:
            SimulationError: when it does not hold within `STEP_TIMEOUT` s of simulation time, or simulation time stands
                still for `STALL_TIMEOUT` s of the wall clock, or this object is closed.
        """
        patience, end = Patience(), self.now() + STEP_TIMEOUT
        while not condition():
            if self.now() > end:
                raise SimulationError(f"no {what} within {STEP_TIMEOUT:g} s")
            if patience.stalled(self.now(), time.monotonic()):
                raise SimulationError(f"no {what}: the simulation's clock stood still for {STALL_TIMEOUT:g} s")
            await self.next_tick()

    def next_tick(self) -> Future:
        """Return a future to await until the next check.

        Raises:
            SimulationError: when this object is closed; the future raises it, too.
        """
        if self._closed:
            raise _left_alone()
        future = Future(executor=self._node.executor)
        self._waiting.append(future)
        return future

    def close(self) -> None:
        """Stop; waiting coroutines get a `SimulationError`."""
        self._closed = True
        self._node.destroy_timer(self._timer)
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_exception(_left_alone())

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)


def _left_alone() -> SimulationError:
    return SimulationError("the node was deactivated in the middle of it")
