"""ROS entities that are created one by one and destroyed all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node


class Entities:
    """Stands in for a node to create entities, and keeps track of them."""

    def __init__(self, node: Node) -> None:
        """Create entities on `node`."""
        self._node = node
        self._made: list[tuple[Callable[[Any], Any], Any]] = []

    def create_subscription(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 (those of rclpy)
        """Create a subscription."""
        return self._keep(self._node.destroy_subscription, self._node.create_subscription(*arguments, **options))

    def create_publisher(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        """Create a publisher."""
        return self._keep(self._node.destroy_publisher, self._node.create_publisher(*arguments, **options))

    def create_client(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        """Create a service client."""
        return self._keep(self._node.destroy_client, self._node.create_client(*arguments, **options))

    def close(self) -> None:
        """Destroy everything, last created first."""
        while self._made:
            destroy, entity = self._made.pop()
            destroy(entity)

    def _keep(self, destroy: Callable[[Any], Any], entity: Any) -> Any:  # noqa: ANN401
        self._made.append((destroy, entity))
        return entity
