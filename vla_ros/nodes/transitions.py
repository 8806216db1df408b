"""Drives managed nodes through their lifecycle by its real services, each step with a deadline."""

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
ACTIVE = State.PRIMARY_STATE_ACTIVE

_NAMES = {CONFIGURE: "configure", ACTIVATE: "activate", DEACTIVATE: "deactivate"}
_GOALS = {CONFIGURE: State.PRIMARY_STATE_INACTIVE, ACTIVATE: ACTIVE, DEACTIVATE: State.PRIMARY_STATE_INACTIVE}
_POLL = 0.05
"""How often a wait looks whether the process still lives, s."""

_ANSWER = 1.0
"""After so long without an answer a request counts as lost, s."""


class GraphError(VlaError):
    """The graph could not be brought up, or a node that it needs has ended."""


class LifecycleClient:
    """Asks nodes for their state and changes it. The given node must be spun by an executor in another thread."""

    def __init__(self, node: Node) -> None:
        """Use `node` to make the service clients."""
        self._node = node
        self._clients: dict[str, Client] = {}

    def change(self, name: str, transition: int, timeout: float, alive: Callable[[], bool] = lambda: True) -> None:
        """Bring the node called `name` through a transition; one that is already there stays there.

        A request can be lost while a process that has just started, or started again, is being discovered, so the
        state is asked for first, and a transition without an answer is asked for again once the state shows that it
        did not begin.

        Args:
            name: Node name, as in `/<name>/change_state`.
            transition: One of `CONFIGURE`, `ACTIVATE`, `DEACTIVATE`.
            timeout: For the service to appear and to answer, s.
            alive: Says whether the node's process still runs; the wait ends when it does not.

        Raises:
            GraphError: when the node refuses, dies, or does not answer in time.
        """
        what = f"{name}: {_NAMES[transition]}"
        wait = _Wait(what, time.monotonic() + timeout, alive)
        request = ChangeState.Request()
        request.transition.id = transition
        while self._state(name, wait) != _GOALS[transition]:
            response = self._ask(ChangeState, f"/{name}/change_state", request, wait)
            if response is not None and not response.success and self._state(name, wait) != _GOALS[transition]:
                raise GraphError(f"{what} failed: the node says why in its log")

    def state(self, name: str, timeout: float) -> int:
        """Return the number of the lifecycle state that the node is in (lifecycle_msgs/State).

        Raises:
            GraphError: when it does not answer in time.
        """
        return self._state(name, _Wait(f"{name}: state", time.monotonic() + timeout, lambda: True))

    def _state(self, name: str, wait: _Wait) -> int:
        while True:
            response = self._ask(GetState, f"/{name}/get_state", GetState.Request(), wait)
            if response is not None:
                return int(response.current_state.id)

    def _ask(self, kind: Any, service: str, request: Any, wait: _Wait) -> Any:  # noqa: ANN401 (service types)
        """Return the answer to one request, or None when there was none within `_ANSWER`."""
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self._node.create_client(kind, service)
        while not client.wait_for_service(timeout_sec=_POLL):
            wait.check("its service did not appear")
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        until = time.monotonic() + _ANSWER
        try:
            while not answered.wait(_POLL):
                wait.check("no answer")
                if time.monotonic() > until:
                    return None
        finally:
            if not future.done():
                client.remove_pending_request(future)
        return future.result()


@dataclass(frozen=True)
class _Wait:
    """Until when something is waited for, and whether it still can happen."""

    what: str
    deadline: float
    alive: Callable[[], bool]

    def check(self, missing: str) -> None:
        if not self.alive():
            raise GraphError(f"{self.what}: the process has ended")
        if time.monotonic() > self.deadline:
            raise GraphError(f"{self.what}: {missing} in time")
