"""Stage with the tools for fault injection. Methods that inject a fault return its time, s on the steady clock."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from rclpy.qos import QoSProfile
from std_msgs.msg import Bool

from vla_ros.bringup.runner import RosLink
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import GraphError, LifecycleClient
from vla_ros.safety_bench.graph.setups import Setup
from vla_ros.safety_bench.graph.stage import READY_LIMIT, Stage
from vla_ros.safety_bench.graph.tampering.speaking_button import speak
from vla_ros.safety_bench.graph.tampering.tamper_client import TamperClient
from vla_ros.safety_bench.referee.referee import Referee


class Scenario(Stage):
    """Injects faults into one running graph and removes them."""

    def __init__(self, setup: Setup, name: str, contract: RobotContract, referee: Referee, period: float) -> None:
        """Join the graph of `setup`, whose name is `name` and command period is `period` s."""
        super().__init__(setup.graph, contract, referee)
        self.period = period
        self.cable = setup.cable
        self.lifecycle = LifecycleClient(setup.graph.node)
        self.tamper = TamperClient(setup.graph.node) if name == "tampered" else None
        self._undo: list[Callable[[], object]] = []
        self._button: BaseProcess | None = None
        self._tap: Any = None
        if name == "button":
            self.plug_in()

    def close(self) -> None:
        """Remove any remaining faults."""
        self.take_away()
        if self._button is not None:
            self._button.kill()

    def later(self, undo: Callable[[], object]) -> None:
        """Register an action for when the fault is removed."""
        self._undo.append(undo)

    def take_away(self) -> None:
        """Run the registered actions, newest first."""
        while self._undo:
            self._undo.pop()()

    def kill(self, node: str, number: signal.Signals = signal.SIGKILL) -> float:
        """Send a signal to a node's process; a stopped one is continued when the fault is removed."""
        if number is signal.SIGSTOP:
            self.later(lambda: self.signal(node, signal.SIGCONT))
        at = time.monotonic()
        self.signal(node, number)
        return at

    def tampered(self, **what: Any) -> float:  # noqa: ANN401 (what JSON holds)
        """Make the sensors publish tampered data."""
        if self.tamper is None:
            raise GraphError("this graph has nobody between the sensors and the rest")
        self.later(self.tamper.order)
        return self.tamper.order(**what)

    def publisher(self, kind: type, topic: str, profile: QoSProfile) -> Any:  # noqa: ANN401 (an rclpy publisher)
        """Return a matched publisher on this process's node; it is destroyed with the fault."""
        made = self.graph.node.create_publisher(kind, topic, profile)
        self.later(lambda: self.graph.node.destroy_publisher(made))
        return _heard(made)

    def unauthorized_publisher(self, kind: type, topic: str, profile: QoSProfile, name: str = "unauthorized") -> Any:  # noqa: ANN401
        """Return a matched publisher of another participant; it is destroyed with the fault."""
        link = RosLink(name, self.graph.domain)
        self.later(link.close)
        return _heard(link.node.create_publisher(kind, topic, profile))

    def tap(self, pressed: bool) -> float:
        """Press or release a button that publishes only when used."""
        if self._tap is None:
            self._tap = _heard(self.graph.node.create_publisher(Bool, "/vla/estop", qos("estop")))
        at = time.monotonic()
        self._tap.publish(Bool(data=pressed))
        return at

    def lose_tap(self) -> float:
        """Destroy the publisher of that button."""
        self.tap(False)
        time.sleep(0.2)
        at = time.monotonic()
        self.graph.node.destroy_publisher(self._tap)
        self._tap = None
        return at

    def plug_in(self) -> None:
        """Start a button that publishes continuously, in its own process."""
        context = multiprocessing.get_context("spawn")
        heard = context.Event()
        self._button = context.Process(target=speak, args=(self.graph.domain, heard), daemon=True)
        self._button.start()
        if not heard.wait(READY_LIMIT):
            raise GraphError(f"nobody heard the button within {READY_LIMIT:.0f} s")

    def kill_button(self) -> float:
        """Kill that process with SIGKILL."""
        if self._button is None or self._button.pid is None:
            raise GraphError("this graph has no speaking button")
        at = time.monotonic()
        self._button.kill()
        return at

    def repeatedly(self, action: Callable[[], object], period: float) -> float:
        """Repeat an action every `period` s, in a thread, until the fault is removed."""
        over = threading.Event()

        def loop() -> None:
            while not over.wait(period):
                action()

        thread = threading.Thread(target=loop, name="fault", daemon=True)

        def stop() -> None:
            over.set()
            thread.join(timeout=5.0)

        self.later(stop)
        at = time.monotonic()
        thread.start()
        return at


def _heard(publisher: Any) -> Any:  # noqa: ANN401 (an rclpy publisher)
    """Return the publisher once it has a subscriber.

    Raises:
        GraphError: when it gets none.
    """
    end = time.monotonic() + READY_LIMIT
    while publisher.get_subscription_count() == 0:
        if time.monotonic() > end:
            raise GraphError(f"nobody listens to {publisher.topic_name}")
        time.sleep(0.01)
    return publisher
