"""Client of `tamper_node`: sends orders and waits until they have taken effect."""

from __future__ import annotations

import json
import threading
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String

from vla_ros.ros.transitions import GraphError
from vla_ros.safety_bench.graph.tampering.tamper_node import DONE, ORDER_PROFILE, ORDERS

LIMIT = 10.0
"""Timeout of an order, s."""


class TamperClient:
    """Sends orders; each replaces the previous one entirely."""

    def __init__(self, node: Node) -> None:
        """Communicate through `node`, which another thread spins."""
        self._change = threading.Condition()
        self._number, self._answers = 0, {0: 0.0}
        self._orders = node.create_publisher(String, ORDERS, ORDER_PROFILE)
        node.create_subscription(String, DONE, self._on_answer, ORDER_PROFILE)

    def order(self, **what: Any) -> float:  # noqa: ANN401 (what JSON holds)
        """Send an order and return when it took effect, s on the steady clock. An empty order ends all tampering.

        Raises:
            GraphError: when there is no reply.
        """
        self._number += 1
        self._orders.publish(String(data=json.dumps({"id": self._number, **what})))
        with self._change:
            if not self._change.wait_for(lambda: self._number in self._answers, LIMIT):
                raise GraphError(f"tamper_node did not obey within {LIMIT:.0f} s: {what}")
            return self._answers.pop(self._number)

    def _on_answer(self, message: String) -> None:
        answer = json.loads(message.data)
        with self._change:
            self._answers[int(answer["id"])] = float(answer["at"])
            self._change.notify_all()
