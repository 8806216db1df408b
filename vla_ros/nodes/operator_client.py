"""What an operator does with a running graph: ask for something, arm, reset."""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import SetBool

from vla_ros.errors import InstructionError
from vla_ros.nodes.observer import Observer
from vla_ros.nodes.qos import qos
from vla_ros.nodes.transitions import GraphError
from vla_ros.safety.selftest_record import UNDER_WAY

SERVICE_TIMEOUT = 5.0
"""Longest time for a service to appear and to answer, s."""

ASK_AGAIN = 1.0
"""A sentence without an answer is said again after this time, s."""

ARM_AGAIN = 0.2
"""A refused arm request is tried again after this time, s."""


class Operator:
    """Speaks with the node it is given, which another thread spins; `observer` hears the answers."""

    def __init__(self, node: Node, observer: Observer) -> None:
        """Make the topic and the clients."""
        self._node, self._observer = node, observer
        self._sentences = node.create_publisher(String, "/vla/instruction", qos("instruction"))
        self._arm = node.create_client(SetBool, "/vla/arm")

    def say(self, text: str, timeout: float) -> int:
        """Publish a sentence and return the number of the instruction it became.

        Raises:
            InstructionError: when the graph refuses it, with its reason.
            GraphError: when nobody answers within `timeout` s.
        """
        observer = self._observer
        before, observer.rejection = observer.instruction.sequence, ""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._sentences.get_subscription_count() == 0:
                time.sleep(0.02)
                continue
            self._sentences.publish(String(data=text))
            if observer.wait(lambda: observer.instruction.sequence != before or bool(observer.rejection), ASK_AGAIN):
                if observer.rejection:
                    raise InstructionError(observer.rejection)
                return int(observer.instruction.sequence)
        raise GraphError(f"nobody took the instruction '{text}' on /vla/instruction within {timeout:.0f} s")

    def arm(self, timeout: float) -> None:
        """Arm the robot, trying again while the safety layer has a reason not to.

        A self-test that is under way has a limit of its own, so it does not count.

        Raises:
            GraphError: with that reason, when it stands for `timeout` s.
        """
        deadline = time.monotonic() + timeout
        while True:
            response = self.call(self._arm, SetBool.Request(data=True))
            if response.success:
                return
            if response.message.startswith(UNDER_WAY):
                deadline = time.monotonic() + timeout
            if time.monotonic() > deadline:
                raise GraphError(f"the robot could not be armed: {response.message}")
            time.sleep(ARM_AGAIN)

    def disarm(self) -> None:
        """Bring the arm to rest and disarm it."""
        self.call(self._arm, SetBool.Request(data=False))

    def call(self, client: Any, request: Any, timeout: float = SERVICE_TIMEOUT) -> Any:  # noqa: ANN401 (any service)
        """Call a service and return its answer, which may take `timeout` s.

        Raises:
            GraphError: when it is not there or does not answer.
        """
        if not client.wait_for_service(SERVICE_TIMEOUT):
            raise GraphError(f"no service {client.srv_name} within {SERVICE_TIMEOUT:.0f} s")
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(timeout):
            client.remove_pending_request(future)
            raise GraphError(f"no answer from {client.srv_name} within {timeout:.0f} s")
        return future.result()
