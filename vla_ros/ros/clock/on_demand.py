"""Read /clock when the time is needed, not on every tick.

A simulation publishes its time a hundred times a second, and rclpy wakes the executor each time. That costs 4 % of a
core in every node, and takes the GIL from the worker threads as often. Read on demand, the time is the newest received,
no older than the one the executor would have set.
"""

from __future__ import annotations

import threading
from typing import Any

from rclpy.node import Node

from vla_ros.ros.polled import NoExecutor


class ClockOnDemand:
    """Clock of a node that follows /clock; has no effect on other nodes. Thread-safe."""

    def __init__(self, node: Node) -> None:
        """Remove the node's existing subscription to /clock, if any, from its executor."""
        self._source = node._time_source
        self._subscription = self._source._clock_sub
        self._lock = threading.Lock()
        if self._subscription is not None:
            nobody = NoExecutor()
            # Its event handlers, too: the middleware counts unread data as an event, which would keep waking the
            # executor.
            handlers: Any = self._subscription.event_handlers  # a list, despite rclpy's type annotation
            for entity in (self._subscription, *handlers):
                entity.callback_group = nobody

    def update(self) -> None:
        """Set the node's clock to the newest time received; never waits."""
        subscription = self._subscription
        if subscription is None:
            return
        with self._lock, subscription.handle:  # serialized, so that the newer of two times is set last
            while (taken := subscription.handle.take_message(subscription.msg_type, False)) is not None:
                self._source.clock_callback(taken[0])
