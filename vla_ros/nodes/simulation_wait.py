"""Lets a coroutine of a node wait in the time of a simulation, which may be slow, but must not stand still."""

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
from vla_ros.nodes.conversions import NANOSECONDS

PERIOD = 0.02
"""A condition is looked at so often, s of the wall clock."""

STEP_TIMEOUT = 10.0
"""Longest time of the simulation for a condition to come true, s."""

STALL_TIMEOUT = 10.0
"""Longest wall time, s, in which the simulation's clock may stand still."""


class Patience:
    """Tells a simulation that is slow, which is waited for, from one that stands still, which is not."""

    def __init__(self) -> None:
        """Begin without having seen the clock."""
        self._seen, self._since = -math.inf, math.inf

    def stalled(self, now: float, steady: float) -> bool:
        """Tell whether the simulation's clock `now`, s, has not moved for `STALL_TIMEOUT` s of the `steady` one."""
        if now != self._seen:
            self._seen, self._since = now, steady
        return steady - self._since > STALL_TIMEOUT


class SimulationWait:
    """Serves requests by coroutines that wait, and wakes them every `PERIOD` s until `close`.

    rclpy keeps the callback group of a coroutine taken from its first line to its last. In the group that a node's
    callbacks share by default, one that waits would therefore shut out the clock, the messages and the timer that it
    waits for, and never wake. So requests and the timer have a group of their own, which lets all of them run.
    """

    def __init__(self, node: Node) -> None:
        """Wait with the executor and the clock of `node`."""
        self._node = node
        self._group = ReentrantCallbackGroup()
        self._waiting: list[Future] = []
        self._closed = False
        self._timer = node.create_timer(
            PERIOD, self._wake, callback_group=self._group, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def serve(self, kind: type, name: str, answer: Callable[[Any, Any], Any]) -> Service:
        """Return a service of the node whose coroutine `answer` may await `until` and `next_tick`."""
        return self._node.create_service(kind, name, answer, callback_group=self._group)

    def now(self) -> float:
        """Return the time of the simulation, s."""
        return float(self._node.get_clock().now().nanoseconds) / NANOSECONDS

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; `what` names it in the error.

        Raises:
            SimulationError: when it has not come true within `STEP_TIMEOUT` s of the simulation, or the simulation's
                clock has stood still for `STALL_TIMEOUT` s of the wall clock, or this was closed.
        """
        patience, end = Patience(), self.now() + STEP_TIMEOUT
        while not condition():
            if self.now() > end:
                raise SimulationError(f"no {what} within {STEP_TIMEOUT:g} s")
            if patience.stalled(self.now(), time.monotonic()):
                raise SimulationError(f"no {what}: the simulation's clock stood still for {STALL_TIMEOUT:g} s")
            await self.next_tick()

    def next_tick(self) -> Future:
        """Return what to await until the next look.

        Raises:
            SimulationError: when this was closed. What is awaited raises it, too.
        """
        if self._closed:
            raise _left_alone()
        future = Future(executor=self._node.executor)
        self._waiting.append(future)
        return future

    def close(self) -> None:
        """Stop; whoever waits gets a `SimulationError`."""
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
