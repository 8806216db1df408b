"""Operator's client of a running graph: send instructions, arm, disarm."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from std_srvs.srv import SetBool

from vla_ros.client.observer import Observer
from vla_ros.errors import InstructionError
from vla_ros.msg import InstructionRequest
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import GraphError
from vla_ros.safety.selftest.record import UNDER_WAY

SERVICE_TIMEOUT = 5.0
"""Timeout for a service to appear and to respond, s."""

REQUEST_TOPIC = "vla/instruction_request"

LONGEST_REQUEST = 4096
"""Maximum text size in InstructionRequest.msg, bytes of UTF-8; far more than an instruction may have."""

ASK_AGAIN = 0.5
"""Period of repeating an unanswered request, s."""

ARM_AGAIN = 0.2
"""Period of repeating a refused arm request, s."""


class Operator:
    """Communicates through a node that another thread spins; `observer` receives the answers."""

    def __init__(self, node: Node, observer: Observer) -> None:
        """Create the publisher and the client."""
        self._node, self._observer = node, observer
        self._requests = node.create_publisher(InstructionRequest, REQUEST_TOPIC, qos("instruction"))
        self._arm = node.create_client(SetBool, "vla/arm")

    def say(self, text: str, timeout: float) -> int:
        """Send an instruction and return its sequence number.

        Raises:
            InstructionError: when the graph refuses it, with its reason.
            GraphError: when there is no answer within `timeout` s.
        """
        observer = self._observer
        request = make_request(text)
        self.send(request, lambda: request.id in observer.taken or request.id in observer.refused, timeout)
        if request.id in observer.refused and request.id not in observer.taken:
            raise InstructionError(observer.refused[request.id])
        if request.id not in observer.taken:
            raise GraphError(f"nobody took the instruction '{text}' on {REQUEST_TOPIC} within {timeout:.0f} s")
        # The caller may count chunks by the newest instruction, so wait until the observer knows it, too.
        observer.wait(lambda: observer.instruction.sequence >= observer.taken[request.id], ASK_AGAIN)
        return observer.taken[request.id]

    def send(self, request: InstructionRequest, answered: Callable[[], bool], timeout: float) -> bool:
        """Publish a request, repeatedly until it is `answered`; return whether it was within `timeout` s.

        Repetitions count as one request, because the instruction node recognizes its id.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0.0:
            if self._requests.get_subscription_count() == 0:
                time.sleep(min(0.02, left))
                continue
            self._requests.publish(request)
            if self._observer.wait(answered, min(ASK_AGAIN, left)):
                return True
        return answered()

    def flush(self, timeout: float) -> bool:
        """Wait until every reader has acknowledged all messages; return False after `timeout` s."""
        deadline = time.monotonic() + timeout
        # In short waits, because rclpy holds the GIL while waiting.
        while not self._requests.wait_for_all_acked(Duration(seconds=1e-3)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def arm(self, timeout: float, progress: Callable[[str], None] | None = None) -> None:
        """Arm the robot, retrying while the safety layer refuses.

        A running self-test has its own time limit, so it does not count towards the timeout; `progress` receives its
        status.

        Raises:
            GraphError: with the reason, when it is still refused after `timeout` s.
        """
        deadline = time.monotonic() + timeout
        while True:
            response = self.call(self._arm, SetBool.Request(data=True))
            if response.success:
                return
            if response.message.startswith(UNDER_WAY):
                deadline = time.monotonic() + timeout
                if progress is not None:
                    progress(response.message)
            if time.monotonic() > deadline:
                raise GraphError(f"the robot could not be armed: {response.message}")
            time.sleep(ARM_AGAIN)

    def disarm(self) -> None:
        """Bring the arm to rest and disarm it."""
        self.call(self._arm, SetBool.Request(data=False))

    def call(self, client: Any, request: Any, timeout: float = SERVICE_TIMEOUT) -> Any:  # noqa: ANN401 (any service)
        """Call a service and return its response, waiting at most `timeout` s.

        Raises:
            GraphError: when the service does not exist or does not respond.
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


def make_request(text: str) -> InstructionRequest:
    """Return a request with a new id; a text too long for the message is truncated."""
    encoded = text.encode("utf-8", "replace")[:LONGEST_REQUEST]
    return InstructionRequest(id=str(uuid.uuid4()), text=encoded.decode("utf-8", "ignore"))
