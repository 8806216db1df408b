"""A subscription that a thread of its own asks: what arrives waits in the middleware, no executor lies on the way."""

from __future__ import annotations

from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile


class _NoExecutor(CallbackGroup):
    """Keeps every executor from waiting for its entities."""

    def can_execute(self, entity: Any) -> bool:  # noqa: ANN401 (any entity)
        """Never."""
        del entity
        return False

    def beginning_execution(self, entity: Any) -> bool:  # noqa: ANN401
        """Never."""
        del entity
        return False

    def ending_execution(self, entity: Any) -> None:  # noqa: ANN401
        """Nothing to do."""


class PolledSubscription:
    """The messages of one topic; for one thread at a time. The queue is as deep as the profile says, and no deeper."""

    def __init__(self, node: Node, kind: type, topic: str, profile: QoSProfile) -> None:
        """Subscribe on `node`."""
        self._node, self._kind, self._most = node, kind, profile.depth
        self._subscription = node.create_subscription(
            kind, topic, lambda _: None, profile, callback_group=_NoExecutor()
        )  # fmt: skip

    def take(self) -> list[Any]:
        """Return what has come since the last call, oldest first; never waits."""
        messages: list[Any] = []
        handle = self._subscription.handle
        with handle:
            while len(messages) < self._most and (taken := handle.take_message(self._kind, False)) is not None:
                messages.append(taken[0])
        return messages

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)
