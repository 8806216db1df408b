"""Observe an episode through public topics and collect its metrics."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String

from vla_ros.msg import ActionChunk, Instruction, InstructionStatus, PolicyStatus, SafetyStatus, TaskStatus
from vla_ros.ros.messages.conversions import image_to_array, stamp_to_seconds
from vla_ros.ros.qos import qos
from vla_ros.types import ImageArray

REQUESTS = 256
"""Maximum number of answers kept, per kind."""

AGES = 100_000
"""Maximum number of observation ages kept: more than an hour."""

Kept = TypeVar("Kept")

MOVING = (SafetyStatus.RUN, SafetyStatus.SLOW)


@dataclass
class Episode:
    """Data received since `Observer.begin`.

    Attributes:
        chunks: Number of chunks sent by the policy.
        ages: Age of the observation behind the command, s, sampled with every safety status while the arm was driven.
        first: The first safety status with the robot armed, and when it was received (steady clock, s).
        last: The newest one, likewise.
        started: Simulation time of the first verdict, s.
        seconds: Simulation time from the first verdict to the newest, or to success, s.
        clock: Simulation time from the first verdict to the newest, s, also after success.
        success: Whether the success checker has reported success.
        states: All states of the safety layer, in order, with their reasons.
    """

    chunks: int = 0
    ages: deque[float] = field(default_factory=lambda: deque(maxlen=AGES))
    first: tuple[SafetyStatus, float] | None = None
    last: tuple[SafetyStatus, float] | None = None
    started: float | None = None
    seconds: float = 0.0
    clock: float = 0.0
    success: bool = False
    states: list[tuple[str, str]] = field(default_factory=list)


class Observer:
    """Subscribes on a node that another thread spins, and lets a caller wait for conditions."""

    def __init__(self, node: Node, camera_topic: str | None = None) -> None:
        """Subscribe; with `camera_topic`, also keep its newest images."""
        self._change = threading.Condition()
        self.heard: dict[str, float] = {}  # message type name to receive time of the newest, s, steady clock
        self.task = TaskStatus()
        self.safety = SafetyStatus()
        self.policy = PolicyStatus()
        self.instruction = Instruction()
        self.rejection = ""
        self.taken: dict[str, int] = {}  # request id to the number of the resulting instruction
        self.refused: dict[str, str] = {}  # request id to the reason of refusal
        self.stops_heard: dict[str, str] = {}  # request id to the safety layer's own answer
        self.episode = Episode()
        self._images: deque[ImageArray] = deque(maxlen=16)
        listen = node.create_subscription
        listen(TaskStatus, "vla/task_status", self._locked(self._on_task), qos("status"))
        listen(SafetyStatus, "vla/safety_status", self._locked(self._on_safety), qos("status"))
        listen(PolicyStatus, "vla/policy_status", self._locked(self._on_policy), qos("status"))
        listen(Instruction, "vla/task", self._locked(self._on_instruction), qos("task"))
        # Deeper than the publisher's queue: the next heartbeat must not push out an answer.
        listen(InstructionStatus, "vla/instruction_status", self._locked(self._on_answer), qos("task"))
        listen(InstructionStatus, "vla/stop_status", self._locked(self._on_stop_heard), qos("stop_status"))
        listen(String, "vla/instruction_rejected", self._locked(self._on_rejection), qos("instruction"))
        listen(ActionChunk, "vla/action_chunk", self._locked(self._on_chunk), qos("action_chunk"))
        if camera_topic is not None:
            listen(Image, camera_topic, self._locked(self._on_image), qos("camera_out"))

    def begin(self) -> None:
        """Begin a new episode and discard the metrics of the previous one."""
        with self._change:
            self.episode = Episode()
            self.rejection = ""

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait at most `timeout` s until `condition` holds; it is checked after every message."""
        with self._change:
            return self._change.wait_for(condition, timeout)

    def images(self) -> list[ImageArray]:
        """Return the images received since the last call, oldest first; beyond 16, the oldest are dropped."""
        with self._change:
            images = list(self._images)
            self._images.clear()
            return images

    def figures(self, lockstep: bool) -> dict[str, Any]:
        """Return the metrics of the episode; rates are by wall clock, in lockstep by simulation time."""
        with self._change:
            episode = self.episode
            ages = 1e3 * np.array(episode.ages or [np.nan])
            return {
                "success": episode.success,
                "steps": episode.chunks - self._difference("rejected_chunks"),
                "policy_ms_p50": _rounded(self.policy.inference_ms_p50),
                "observation_age_ms_p50": _rounded(float(np.percentile(ages, 50.0))),
                "observation_age_ms_p99": _rounded(float(np.percentile(ages, 99.0))),
                "command_rate_hz": _rounded(self._command_rate(lockstep)),
                "episode_s": round(episode.seconds, 2),
                "missed_ticks": self._difference("missed_ticks"),
                "corrections": self._difference("corrections"),
            }

    def _difference(self, counter: str) -> int:
        first, last = self.episode.first, self.episode.last
        return 0 if first is None or last is None else int(getattr(last[0], counter) - getattr(first[0], counter))

    def _command_rate(self, lockstep: bool) -> float:
        first, last = self.episode.first, self.episode.last
        if first is None or last is None:
            return 0.0
        span = last[1] - first[1]
        if lockstep:
            span = stamp_to_seconds(last[0].header.stamp) - stamp_to_seconds(first[0].header.stamp)
        return self._difference("commands") / span if span > 0.0 else 0.0

    def _locked(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        def locked(message: Any) -> None:  # noqa: ANN401 (any message)
            with self._change:
                self.heard[type(message).__name__] = time.monotonic()
                take(message)
                self._change.notify_all()

        return locked

    def _on_task(self, message: TaskStatus) -> None:
        self.task = message
        now = stamp_to_seconds(message.header.stamp)
        if self.episode.first is None:
            return
        if self.episode.started is None:
            self.episode.started = now
        self.episode.clock = now - self.episode.started
        if self.episode.success:
            return
        self.episode.seconds = now - self.episode.started
        self.episode.success = message.success

    def _on_safety(self, message: SafetyStatus) -> None:
        self.safety = message
        episode = self.episode
        if not episode.states or episode.states[-1] != (message.state_name, message.reason):
            episode.states.append((message.state_name, message.reason))
        if not message.armed:
            return
        episode.last = (message, time.monotonic())
        episode.first = episode.first or episode.last
        if message.state in MOVING and message.observation_age >= 0.0:
            episode.ages.append(message.observation_age)

    def _on_policy(self, message: PolicyStatus) -> None:
        self.policy = message

    def _on_instruction(self, message: Instruction) -> None:
        self.instruction = message
        if message.request_id:
            _keep(self.taken, message.request_id, int(message.sequence))

    def _on_answer(self, message: InstructionStatus) -> None:
        if not message.request_id:
            return
        if message.request_accepted:
            _keep(self.taken, message.request_id, int(message.request_sequence))
        else:
            _keep(self.refused, message.request_id, str(message.sentence))

    def _on_stop_heard(self, message: InstructionStatus) -> None:
        _keep(self.stops_heard, message.request_id, str(message.sentence))

    def _on_rejection(self, message: String) -> None:
        self.rejection = message.data

    def _on_chunk(self, message: ActionChunk) -> None:
        self.episode.chunks += message.instruction_sequence == self.instruction.sequence

    def _on_image(self, message: Image) -> None:
        self._images.append(image_to_array(message))


def _keep(answers: dict[str, Kept], request_id: str, answer: Kept) -> None:
    answers.pop(request_id, None)
    answers[request_id] = answer
    if len(answers) > REQUESTS:
        del answers[next(iter(answers))]


def _rounded(value: float) -> float | None:
    return round(value, 2) if np.isfinite(value) else None
