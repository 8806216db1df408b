"""Validate free-text instructions: stops pass at once, tasks at a bounded rate, refusals with a reason.

Only the newest task, the newest refusal and a few answers are queued, so a flood costs neither memory nor log space.
The heartbeat comes from the thread that processes the instructions, so it stops when that thread hangs.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from std_msgs.msg import String

from vla_ros.errors import InstructionError
from vla_ros.language.instruction import normalize_instruction
from vla_ros.language.rate import RateLimiter
from vla_ros.language.request_log import Answer, RequestLog
from vla_ros.language.stop import is_stop
from vla_ros.msg import Instruction as InstructionMessage
from vla_ros.msg import InstructionRequest, InstructionStatus
from vla_ros.ros.lifecycle import ManagedNode, diagnostic, run_node
from vla_ros.ros.messages.conversions import NANOSECONDS, instruction_to_message
from vla_ros.ros.qos import qos
from vla_ros.types import Instruction, InstructionKind

MIN_RATE, MAX_RATE = 0.1, 50.0
"""Range of the parameter `max_rate`, 1/s."""

REFUSALS_PER_SECOND = 5.0
"""Maximum rate of answered and logged refusals, 1/s; beyond it, only the newest."""

POLL_PERIOD = 0.02
"""Polling period of the waiting messages, s on the steady clock."""

BEAT_PERIOD = 2 * POLL_PERIOD
"""Heartbeat period, s; the safety layer holds after about a dozen missing beats (`timing.instruction_timeout`)."""

ANSWERS = 16
"""Maximum number of answers waiting for a heartbeat; a lost one is repeated when its request is."""

SUPERSEDED = "a newer sentence came before its turn"
STOPPED = "a stop came before its turn"

STOP_TEXT = "stop"
"""Text of a STOP whose own text cannot be forwarded."""


class InstructionNode(ManagedNode):
    """Validates and publishes instructions."""

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("instruction_node")
        self._sequence = 0  # keeps rising through lifecycle transitions: consumers take a lower number for an old one
        self._received = self._stops = self._refused = self._beats = 0
        self._requests = RequestLog()
        self._answers: deque[Answer] = deque(maxlen=ANSWERS)
        self._answered = Answer("", None)
        self._beat_due = 0.0
        self._last_refusal = ""
        self._made: list[Any] = []
        self._inputs: list[Subscription] = []
        self._timer: Timer | None = None

    def configure(self) -> None:
        """Read the rate and create the publishers.

        Raises:
            ContractError: when `max_rate` is out of range.
        """
        rate = float(self.parameter("max_rate", 5.0, "tasks per second", low=MIN_RATE, high=MAX_RATE, changeable=True))
        self._tasks: RateLimiter[tuple[str, InstructionRequest | None]] = RateLimiter(1.0 / rate)
        self._waiting: InstructionRequest | None = None
        self._refusals: RateLimiter[str] = RateLimiter(1.0 / REFUSALS_PER_SECOND)
        self._task = self.create_publisher(InstructionMessage, "vla/task", qos("task"))
        self._made.append(self._task)
        self._rejected = self.create_publisher(String, "vla/instruction_rejected", qos("instruction"))
        self._made.append(self._rejected)
        self._status = self.create_publisher(InstructionStatus, "vla/instruction_status", qos("status"))
        self._made.append(self._status)

    def activate(self) -> None:
        """Subscribe to the inputs."""
        profile = qos("instruction")
        self._inputs = [
            self.create_subscription(String, "vla/instruction", self._on_instruction, profile),
            self.create_subscription(InstructionRequest, "vla/instruction_request", self._on_request, profile),
        ]
        # Steady clock: the simulation may be paused, and a jump of its time must neither block nor flood.
        self._timer = self.create_timer(POLL_PERIOD, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def deactivate(self) -> None:
        """Unsubscribe and discard whatever is waiting."""
        while self._inputs:
            self.destroy_subscription(self._inputs.pop())
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        self._forget_waiting(time.monotonic(), STOPPED)
        self._refusals.restart(time.monotonic())

    def cleanup(self) -> None:
        """Destroy the publishers."""
        for publisher in self._made:
            self.destroy_publisher(publisher)
        self._made = []

    def health(self) -> list[DiagnosticStatus]:
        """Report the counts and, until the next valid instruction, why the last one was refused."""
        if not self.active:
            return []
        level = DiagnosticStatus.WARN if self._last_refusal else DiagnosticStatus.OK
        figures = {
            "accepted": self._sequence,
            "stops": self._stops,
            "refused": self._refused,
            "superseded": self._tasks.superseded,
        }
        return [diagnostic(self.get_name(), level, self._last_refusal or "listening", figures)]

    def _on_instruction(self, message: String) -> None:
        self._take(message.data, None)

    def _on_request(self, message: InstructionRequest) -> None:
        if is_stop(message.text):  # every time and whatever its id: bookkeeping must never suppress a stop
            self._take(message.text, message)
            return
        try:
            if self._requests.begin(message.id, message.text):
                self._take(message.text, message)
            elif answer := self._requests.answer(message.id):
                self._answers.append(answer)
        except InstructionError as error:
            self._refuse(str(error), None)
            self._answers.append(Answer(message.id, None, str(error)))

    def _take(self, text: str, request: InstructionRequest | None) -> None:
        now = time.monotonic()
        self._received += 1
        # Checked before any validation: a stop that is too long or garbled is still a stop.
        if is_stop(text):
            self._forget_waiting(now, STOPPED)  # a task from before the stop must not follow it
            self._stops += 1
            self._publish(_stop_text(text), InstructionKind.STOP, request)
            return
        try:
            normal = normalize_instruction(text)
        except InstructionError as error:
            self._refuse(str(error), request)
            return
        self._settle(self._waiting, None, SUPERSEDED)
        self._waiting = request
        for ready in self._tasks.offer((normal, request), now):
            self._publish_task(*ready)

    def _refuse(self, sentence: str, request: InstructionRequest | None) -> None:
        self._refused += 1
        self._last_refusal = sentence
        self._answer(self._refusals.offer(sentence, time.monotonic()))
        self._settle(request, None, sentence)

    def _forget_waiting(self, now: float, why: str) -> None:
        self._tasks.restart(now)
        self._settle(self._waiting, None, why)
        self._waiting = None

    def _settle(self, request: InstructionRequest | None, sequence: int | None, sentence: str = "") -> None:
        """Queue the answer to a request for one of the next heartbeats."""
        if request is not None:
            self._answers.append(self._requests.settle(request.id, request.text, sequence, sentence))

    def _poll(self) -> None:
        now = time.monotonic()
        for ready in self._tasks.due(now):
            self._publish_task(*ready)
        self._answer(self._refusals.due(now))
        if self._answers or now >= self._beat_due:
            self._beat(now)

    def _beat(self, now: float) -> None:
        self._beats += 1
        self._beat_due = now + BEAT_PERIOD - 0.5 * POLL_PERIOD  # tolerates a poll that is slightly early
        if self._answers:
            self._answered = self._answers.popleft()
        answer = self._answered
        message = InstructionStatus(
            sequence=self._sequence,
            received=self._received,
            accepted=self._sequence,
            stops=self._stops,
            refused=self._refused,
            beat=self._beats,
            request_id=answer.request_id,
            request_accepted=answer.sequence is not None,
            request_sequence=answer.sequence or 0,
            sentence=answer.sentence[:256],
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)

    def _publish_task(self, text: str, request: InstructionRequest | None) -> None:
        self._waiting = None
        self._publish(text, InstructionKind.TASK, request)

    def _publish(self, text: str, kind: InstructionKind, request: InstructionRequest | None) -> None:
        self._sequence += 1
        self._last_refusal = ""
        stamp = self.get_clock().now().nanoseconds / NANOSECONDS
        message = instruction_to_message(Instruction(text, self._sequence, kind, stamp))
        if request is not None:
            message.request_id = request.id
        self._task.publish(message)
        self._settle(request, self._sequence)

    def _answer(self, refusals: list[str]) -> None:
        for sentence in refusals:
            self.get_logger().warning(f"refused: {sentence}")
            self._rejected.publish(String(data=sentence))


def _stop_text(text: str) -> str:
    try:
        return normalize_instruction(text)
    except InstructionError:
        return STOP_TEXT


def main() -> int:
    """Run the node."""
    return run_node(InstructionNode)


if __name__ == "__main__":
    raise SystemExit(main())
