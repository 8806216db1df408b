"""What an operator does with a running graph: ask for something, arm, reset."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from std_srvs.srv import SetBool

from vla_ros.errors import InstructionError
from vla_ros.msg import InstructionRequest
from vla_ros.nodes.observer import Observer
from vla_ros.nodes.qos import qos
from vla_ros.nodes.transitions import GraphError
from vla_ros.safety.selftest_record import UNDER_WAY

SERVICE_TIMEOUT = 5.0
"""Longest time for a service to appear and to answer, s."""

REQUEST_TOPIC = "vla/instruction_request"

LONGEST_REQUEST = 4096
"""Most that InstructionRequest.msg holds of a text, bytes of UTF-8; far more than an instruction may have."""

ASK_AGAIN = 0.5
"""A request without an answer is sent again after this time, s."""

ARM_AGAIN = 0.2
"""A refused arm request is tried again after this time, s."""


class Operator:
    """Speaks with the node it is given, which another thread spins; `observer` hears the answers."""

    def __init__(self, node: Node, observer: Observer) -> None:
        """Make the topic and the clients."""
        self._node, self._observer = node, observer
        self._requests = node.create_publisher(InstructionRequest, REQUEST_TOPIC, qos("instruction"))
        self._arm = node.create_client(SetBool, "vla/arm")

    def say(self, text: str, timeout: float) -> int:
        """Publish a sentence and return the number of the instruction it became.

        Raises:
            InstructionError: when the graph refuses it, with its reason.
            GraphError: when nobody answers within `timeout` s.
        """
        observer = self._observer
        request = make_request(text)
        self.send(request, lambda: request.id in observer.taken or request.id in observer.refused, timeout)
        if request.id in observer.refused and request.id not in observer.taken:
            raise InstructionError(observer.refused[request.id])
        if request.id not in observer.taken:
            raise GraphError(f"nobody took the instruction '{text}' on {REQUEST_TOPIC} within {timeout:.0f} s")
        # Who counts chunks by the newest instruction must know this one, too.
        observer.wait(lambda: observer.instruction.sequence >= observer.taken[request.id], ASK_AGAIN)
        return observer.taken[request.id]

    def send(self, request: InstructionRequest, answered: Callable[[], bool], timeout: float) -> bool:
        """Publish a request, again while it is not `answered`; say whether it was within `timeout` s.

        Repeated, it stays one request: the instruction node knows its id.
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
        """Wait until every reader has acknowledged what was sent; False when one has not within `timeout` s."""
        deadline = time.monotonic() + timeout
        # In short looks: rclpy keeps the interpreter from every other thread while it waits.
        while not self._requests.wait_for_all_acked(Duration(seconds=1e-3)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def arm(self, timeout: float, progress: Callable[[str], None] | None = None) -> None:
        """Arm the robot, trying again while the safety layer has a reason not to.

        A self-test that is under way has a limit of its own, so it does not count; `progress` hears how far it is.

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
                if progress is not None:
                    progress(response.message)
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


def make_request(text: str) -> InstructionRequest:
    """Return a request of a new id; of a text that is too long for the message, its beginning."""
    encoded = text.encode("utf-8", "replace")[:LONGEST_REQUEST]
    return InstructionRequest(id=str(uuid.uuid4()), text=encoded.decode("utf-8", "ignore"))
