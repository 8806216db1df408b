"""Drive managed nodes through their lifecycle by service calls, each step with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.node import Node

from vla_ros.errors import VlaError

CONFIGURE = Transition.TRANSITION_CONFIGURE
ACTIVATE = Transition.TRANSITION_ACTIVATE
DEACTIVATE = Transition.TRANSITION_DEACTIVATE
CLEANUP = Transition.TRANSITION_CLEANUP
ACTIVE = State.PRIMARY_STATE_ACTIVE

_NAMES = {CONFIGURE: "configure", ACTIVATE: "activate", DEACTIVATE: "deactivate", CLEANUP: "cleanup"}
_GOALS = {
    CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    ACTIVATE: ACTIVE,
    DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
    CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
}
_POLL = 0.05
"""Period of checking that the process is alive while waiting for a service, s."""

_ANSWER = 0.5
"""Time within which an idle node answers, s."""


class GraphError(VlaError):
    """The graph could not be started, or a required node has ended."""


class LifecycleClient:
    """Queries and changes the lifecycle state of nodes. Another thread must spin the given node."""

    def __init__(self, node: Node) -> None:
        """Create service clients on `node`."""
        self._node = node
        self._clients: dict[str, Client] = {}

    def change(self, name: str, transition: int, timeout: float, alive: Callable[[], bool] = lambda: True) -> None:
        """Bring the node called `name` through a transition; no effect if it is already in the target state.

        A request can be lost while a newly started process is being discovered. The state is therefore queried first,
        and an unanswered transition is requested again once the state shows that it has not begun.

        Args:
            name: Node name, as in `/<name>/change_state`.
            transition: One of `CONFIGURE`, `ACTIVATE`, `DEACTIVATE`.
            timeout: Time for the service to appear and to answer, s.
            alive: Returns whether the node's process is still running; otherwise the wait ends.

        Raises:
            GraphError: when the node refuses, crashes, or does not answer in time.
        """
        what = f"{name}: {_NAMES[transition]}"
        wait = _Wait(what, time.monotonic() + timeout, alive)
        request = ChangeState.Request()
        request.transition.id = transition
        before = self._state(name, wait)
        while before != _GOALS[transition]:
            call = _Call(self._client(ChangeState, f"/{name}/change_state"), request, wait)
            while not call.answered.wait(_ANSWER):
                # A busy node answers nothing; one still in its previous state has not received the request.
                if self._ask_state(name, wait) == before and not call.answered.wait(_ANSWER):
                    break
            if call.answered.is_set() and not call.result().success:
                raise GraphError(f"{what} failed: the node says why in its log")
            call.forget()
            before = self._state(name, wait)

    def state(self, name: str, timeout: float) -> int:
        """Return the id of the node's lifecycle state (lifecycle_msgs/State).

        Raises:
            GraphError: when it does not answer in time.
        """
        return self._state(name, _Wait(f"{name}: state", time.monotonic() + timeout, lambda: True))

    def _state(self, name: str, wait: _Wait) -> int:
        while True:
            state = self._ask_state(name, wait)
            if state is not None:
                return state

    def _ask_state(self, name: str, wait: _Wait) -> int | None:
        """Return the state, or None without an answer within `_ANSWER`."""
        call = _Call(self._client(GetState, f"/{name}/get_state"), GetState.Request(), wait)
        call.answered.wait(_ANSWER)
        wait.check("no answer")
        if call.answered.is_set():
            return int(call.result().current_state.id)
        call.forget()
        return None

    def _client(self, kind: type, service: str) -> Client:
        if service not in self._clients:
            self._clients[service] = self._node.create_client(kind, service)
        return self._clients[service]


class _Call:
    """One pending request."""

    def __init__(self, client: Client, request: object, wait: _Wait) -> None:
        while not client.wait_for_service(timeout_sec=_POLL):
            wait.check("its service did not appear")
        self.answered = threading.Event()
        self._client, self._future = client, client.call_async(request)
        self._future.add_done_callback(lambda _: self.answered.set())

    def result(self) -> Any:  # noqa: ANN401 (the response of any service)
        return self._future.result()

    def forget(self) -> None:
        if not self._future.done():
            self._client.remove_pending_request(self._future)


@dataclass(frozen=True)
class _Wait:
    """Deadline of a wait, and whether the awaited process is still alive."""

    what: str
    deadline: float
    alive: Callable[[], bool]

    def check(self, missing: str) -> None:
        if not self.alive():
            raise GraphError(f"{self.what}: the process has ended")
        if time.monotonic() > self.deadline:
            raise GraphError(f"{self.what}: {missing} in time")
