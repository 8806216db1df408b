"""The console's client of the graph. Uses only topics and services that are open to any operator."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from vla_ros.client.observer import Observer
from vla_ros.client.operator_client import Operator
from vla_ros.client.saying import say
from vla_ros.console.link import Answer, Frame
from vla_ros.errors import VlaError
from vla_ros.nodes.console.cameras import ConsoleCameras
from vla_ros.nodes.console.status import (
    health_line,
    instruction,
    policy_status,
    safety_status,
    task_status,
)
from vla_ros.recording.recorder import Recorder
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.entities import Entities
from vla_ros.ros.qos import qos

ANSWER_TIMEOUT = 8.0
"""Timeout for the answer to an instruction, s."""

RESET_TIMEOUT = 1.5
"""Time for which a reset is retried, s: the button's release travels separately and may arrive later."""

RESET_AGAIN = 0.1

HEALTH_LINES = 64
"""Maximum number of /diagnostics entries kept; the newest win."""

TASK_NAME = "console"
"""Task name in recordings."""


class ConsoleGraph:
    """Implements `GraphLink` on a node that another thread spins."""

    def __init__(
        self, node: Node, contract: RobotContract, *, recordings: Path | None = None, view_only: bool = False
    ) -> None:
        """Subscribe to the graph and, unless `view_only`, prepare to command it.

        Args:
            node: Node in the graph's domain and namespace.
            contract: Robot contract.
            recordings: Folder of MCAP episodes; None: recording is disabled.
            view_only: Create no publisher and no service client.
        """
        self.robot = contract.name
        self.cameras = tuple(camera.name for camera in contract.cameras)
        self.records = recordings is not None and not view_only
        self._node, self._contract, self._recordings = node, contract, recordings
        made: Any = Entities(node)  # used in place of the node, so that `close` can destroy everything
        self._entities = made
        self._namespace = node.get_namespace().strip("/")
        self._health_lock, self._recording_lock = threading.Lock(), threading.Lock()
        self._health: dict[str, tuple[DiagnosticStatus, float]] = {}
        self._recorder: Recorder | None = None
        self._recording = ""
        self._began = 0.0
        self._observer = Observer(made)
        made.create_subscription(DiagnosticArray, "/diagnostics", self._take_health, qos("diagnostics"))
        self._view = ConsoleCameras(node, contract)
        self._button: Any = None
        if not view_only:
            self._operator = Operator(made, self._observer)
            self._arm = made.create_client(SetBool, "vla/arm")
            self._reset = made.create_client(Trigger, "vla/reset")
            self._button = made.create_publisher(Bool, "vla/estop", qos("estop"))

    def close(self) -> None:
        """Leave the graph and discard a running episode. The safety node treats the vanished button as pressed."""
        with self._recording_lock:
            if self._recorder is not None and self._recording:
                self._recorder.drop()
                self._recording = ""
        self._view.close()
        self._entities.close()

    def publish_estop(self, pressed: bool) -> None:
        """Publish the state of the emergency stop button; call from any thread."""
        self._button.publish(Bool(data=pressed))

    def status(self) -> dict[str, Any]:
        """Return the current status, JSON-serializable."""
        observer, now = self._observer, time.monotonic()
        heard = dict(observer.heard)

        def age(kind: str) -> float | None:
            return now - heard[kind] if kind in heard else None

        safety, policy, task = age("SafetyStatus"), age("PolicyStatus"), age("TaskStatus")
        with self._health_lock:
            health = sorted(self._health.items())
        return {
            "safety": None if safety is None else safety_status(observer.safety, safety),
            "policy": None if policy is None else policy_status(observer.policy, policy),
            "task": None if task is None else task_status(observer.task, task),
            "instruction": instruction(observer.instruction) if "Instruction" in heard else None,
            "health": [health_line(message, now - came) for _, (message, came) in health],
            "cameras": self._view.status(),
            "estop_readers": 0 if self._button is None else self._button.get_subscription_count(),
            "recording": self._recording_state(),
        }

    def show(self, cameras: Collection[str]) -> None:
        """See `GraphLink`."""
        self._view.show(cameras)

    def frame(self, camera: str) -> Frame | None:
        """See `GraphLink`."""
        return self._view.frame(camera)

    def instruct(self, text: str) -> Answer:
        """See `GraphLink`. A stop phrase is done once the safety layer itself has received it and holds."""
        said = say(self._operator, self._observer, text, ANSWER_TIMEOUT)
        return Answer(said.done, "; ".join(said.sentences(ANSWER_TIMEOUT)))

    def arm(self) -> Answer:
        """See `GraphLink`."""
        response = self._operator.call(self._arm, SetBool.Request(data=True))
        return Answer(bool(response.success), str(response.message) or "armed")

    def disarm(self) -> Answer:
        """See `GraphLink`."""
        response = self._operator.call(self._arm, SetBool.Request(data=False))
        return Answer(bool(response.success), str(response.message) or "the arm comes to rest, then it is disarmed")

    def reset(self) -> Answer:
        """See `GraphLink`."""
        end = time.monotonic() + RESET_TIMEOUT
        while True:
            response = self._operator.call(self._reset, Trigger.Request())
            if response.success or time.monotonic() > end:
                return Answer(bool(response.success), str(response.message) or "reset")
            time.sleep(RESET_AGAIN)

    def start_recording(self) -> Answer:
        """See `GraphLink`."""
        if not self.records or self._recordings is None:
            return Answer(False, "this console does not record: start it with a folder for recordings")
        with self._recording_lock:
            if self._recorder is None:
                self._recorder = Recorder(self._entities, self._contract, bags=self._recordings)
            name = time.strftime("%Y%m%d_%H%M%S")
            self._recorder.begin(name, TASK_NAME)
            self._recording, self._began = name, time.monotonic()
        return Answer(True, f"recording {name}")

    def end_recording(self, success: bool | None, keep: bool) -> Answer:
        """See `GraphLink`."""
        with self._recording_lock:
            name, self._recording = self._recording, ""
        if self._recorder is None or not name:
            return Answer(False, "nothing is being recorded")
        if not keep:
            self._recorder.drop()
            return Answer(True, f"{name} was dropped")
        try:
            episode = self._recorder.commit(success)
        except VlaError as error:
            return Answer(False, f"{name} was dropped: {error}")
        mark = {True: "success", False: "failure", None: "no mark"}[success]
        return Answer(True, f"{name} kept ({mark}): {episode.steps} steps in {episode.bag}")

    def _recording_state(self) -> dict[str, Any] | None:
        name, recorder = self._recording, self._recorder
        if not name or recorder is None:
            return None
        return {"name": name, "seconds": round(time.monotonic() - self._began, 1), "failure": recorder.failure}

    def _take_health(self, message: DiagnosticArray) -> None:
        now = time.monotonic()
        with self._health_lock:
            for status in message.status:
                if status.name.rpartition("/")[0] != self._namespace:
                    continue
                self._health.pop(status.name, None)
                self._health[status.name] = (status, now)
                if len(self._health) > HEALTH_LINES:
                    del self._health[next(iter(self._health))]
