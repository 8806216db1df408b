"""Reads /clock when somebody asks for the time, not whenever it ticks.

A simulation publishes its time a hundred times a second, and rclpy wakes the executor for each: 4 % of a core in every
node, and as often Python's interpreter lock is taken from the threads that do the work. Asked for, the time is the
newest that has arrived, which is no older than what the executor would have set.
"""

from __future__ import annotations

import threading
from typing import Any

from rclpy.node import Node

from vla_ros.nodes.polled import NoExecutor


class ClockOnDemand:
    """The clock of a node that follows /clock; of one that does not, nothing changes. For any thread."""

    def __init__(self, node: Node) -> None:
        """Take the subscription to /clock, which `node` has already if it has one at all, off its executor."""
        self._source = node._time_source
        self._subscription = self._source._clock_sub
        self._lock = threading.Lock()
        if self._subscription is not None:
            nobody = NoExecutor()
            # With its events, too: the middleware counts unread data among them, and the executor would not sleep.
            handlers: Any = self._subscription.event_handlers  # a list, whatever rclpy declares
            for entity in (self._subscription, *handlers):
                entity.callback_group = nobody

    def update(self) -> None:
        """Set the node's clock to the newest time that has arrived; never waits for one."""
        subscription = self._subscription
        if subscription is None:
            return
        with self._lock, subscription.handle:  # one thread at a time: of two times, the newer is set last
            while (taken := subscription.handle.take_message(subscription.msg_type, False)) is not None:
                self._source.clock_callback(taken[0])
