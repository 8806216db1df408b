"""Set up one scene after another in a running graph with the simulated workcell."""

from __future__ import annotations

from rclpy.node import Node

from vla_ros.client.observer import Observer
from vla_ros.client.operator_client import Operator
from vla_ros.msg import SafetyStatus
from vla_ros.ros.messages.conversions import stamp_to_seconds
from vla_ros.ros.transitions import GraphError
from vla_ros.srv import ResetScene

RESET_LIMIT = 120.0
"""Timeout of a scene reset, s of the wall clock: in Gazebo the arm drives home, 7 s of a possibly slow simulation."""


class Stage:
    """Brings the arm to rest and sets up another scene."""

    def __init__(self, node: Node, observer: Observer, operator: Operator) -> None:
        """Create the client; another thread spins `node`."""
        self._observer, self._operator = observer, operator
        self._scene = node.create_client(ResetScene, "sim/reset_scene")

    def set_up(self, seed: int, instruction: str, timeout: float) -> str:
        """Return the instruction that the scene was set up for; an empty `instruction` lets the scene choose.

        Raises:
            GraphError: when a step does not happen within `timeout` s, or the scene reset within `RESET_LIMIT`.
        """
        observer, before = self._observer, stamp_to_seconds(self._observer.task.header.stamp)
        self._operator.say("stop", timeout)
        self._operator.disarm()
        if not observer.wait(lambda: observer.safety.state == SafetyStatus.DISARMED, timeout):
            raise GraphError(f"the arm was not disarmed: {observer.safety.sentence}")
        answer = self._operator.call(self._scene, ResetScene.Request(seed=seed, instruction=instruction), RESET_LIMIT)
        if not answer.success:
            raise GraphError(f"no scene of seed {seed}: {answer.message}")

        def judged() -> bool:
            task = observer.task
            return task.instruction == answer.instruction and stamp_to_seconds(task.header.stamp) > before

        if not observer.wait(judged, timeout):
            raise GraphError(f"the simulator does not judge '{answer.instruction}'")
        return str(answer.instruction)
