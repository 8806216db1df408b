"""Check the parameters of a `joint_trajectory_controller` that is to follow the safety node.

With its defaults that controller rejects every trajectory point with nonzero velocity, so the arm stands still and then
jumps to where the commands came to rest; and it never times out. Both are detected here, before anything moves. Source:
the parameter descriptions in ros2_controllers, `joint_trajectory_controller_parameters.yaml`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.task import Future

RETRY = 1.0
"""Time after which an unanswered parameter request is repeated, s: a reply can be lost."""

SETTLE = 2.0
"""Time after discovery of a node, s, after which it is taken to have no parameter services: discovery of services is
slow.
"""

AT_SPEED = "allow_nonzero_velocity_at_trajectory_end"
FROM_DESIRED = "interpolate_from_desired_state"
REPLACEMENT = "allow_trajectory_replacement"
TIMEOUT, GOAL_TIME, JOINTS = "cmd_timeout", "constraints.goal_time", "joints"
NAMES = (AT_SPEED, FROM_DESIRED, REPLACEMENT, TIMEOUT, GOAL_TIME, JOINTS)


def objections(settings: Mapping[str, Any], joints: Sequence[str]) -> list[str]:
    """Return one sentence per parameter that would keep a controller from following or from stopping.

    Args:
        settings: Maps parameter names to values; those the node does not have are left out. A node that has none of
            them is not a `joint_trajectory_controller` and gets no objections.
        joints: Joints that it moves according to the robot contract.
    """
    said = []
    if settings.get(AT_SPEED) is False:
        said.append(f"{AT_SPEED} is false: every point that is passed at speed would be refused; set it to true")
    if settings.get(FROM_DESIRED) is False:
        said.append(
            f"{FROM_DESIRED} is false: every point would be reached from where the arm lags behind; set it to true"
        )
    if settings.get(REPLACEMENT) is True:
        said.append(
            f"{REPLACEMENT} is true: versions after 6.9 would play a late command from its arrival on; set it to false"
        )
    timeout, goal_time = settings.get(TIMEOUT), settings.get(GOAL_TIME, 0.0)
    if timeout is not None and not timeout > goal_time:
        said.append(
            f"{TIMEOUT} is {timeout} s, which is never: expected more than {GOAL_TIME} ({goal_time} s), so that "
            "silence stops the arm"
        )
    moved = settings.get(JOINTS)
    if moved is not None and AT_SPEED in settings and set(moved) != set(joints):
        said.append(f"{JOINTS} are {sorted(moved)}, the contract says {sorted(joints)}")
    return said


class SettingsQuestion:
    """Asynchronous request for the parameters of one node; `settings` is the answer, None until it is known.

    Each parameter is requested separately, because a C++ node returns none at all if it lacks one of those requested.
    An unanswered request is repeated for as long as it is polled.
    """

    def __init__(self, node: Node, other: str) -> None:
        """Query the node with the full name `other`; `node` must be spun."""
        self.settings: dict[str, Any] | None = None
        self._since, self._open = time.monotonic(), list(NAMES)
        self._found: dict[str, Any] = {}
        self._asked = -math.inf
        self._waiting: dict[str, Future] = {}
        self._client = node.create_client(GetParameters, f"{other}/get_parameters")

    def poll(self) -> bool:
        """Send requests once the node is ready; return whether the answer is known."""
        now = time.monotonic()
        if self.settings is None and now - self._asked >= RETRY:
            if self._client.service_is_ready():
                self._asked = now
                for name in self._open:
                    self._ask(name)
            elif self._asked < 0.0 and now - self._since > SETTLE:
                self.settings = {}
        return self.settings is not None

    def _ask(self, name: str) -> None:
        def take(answer: GetParameters.Response) -> None:
            if name not in self._open:  # a late reply to an earlier request
                return
            value = parameter_value_to_python(answer.values[0]) if answer.values else None
            if value is not None:
                self._found[name] = value
            self._open.remove(name)
            if not self._open:
                self.settings = self._found

        if (lost := self._waiting.pop(name, None)) is not None:
            self._client.remove_pending_request(lost)
        self._waiting[name] = future = self._client.call_async(GetParameters.Request(names=[name]))
        future.add_done_callback(lambda done: take(done.result()))
