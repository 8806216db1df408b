"""Free text in, validated instructions out: a stop at once, tasks at a bounded rate, a refusal with its reason.

Nothing queues here but the newest task and the newest refusal, so a flood costs neither memory nor log.
"""

from __future__ import annotations

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from std_msgs.msg import String

from vla_ros.errors import ContractError, InstructionError
from vla_ros.language.instruction import normalise_instruction
from vla_ros.language.rate import RateLimiter
from vla_ros.language.stop import is_stop
from vla_ros.msg import Instruction as InstructionMessage
from vla_ros.nodes.conversions import NANOSECONDS, instruction_to_message
from vla_ros.nodes.lifecycle import ManagedNode, diagnostic, run_node
from vla_ros.nodes.qos import qos
from vla_ros.types import Instruction, InstructionKind

MIN_RATE, MAX_RATE = 0.1, 50.0
"""Range of the parameter `max_rate`, 1/s."""

REFUSALS_PER_SECOND = 5.0
"""Refusals that are answered and logged, 1/s; of more, the newest."""

POLL_PERIOD = 0.02
"""How often the node looks whether the time of what waits has come, s on the steady clock."""

STOP_TEXT = "stop"
"""Text of a STOP whose own text cannot be passed on."""


class InstructionNode(ManagedNode):
    """See the module."""

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("instruction_node")
        self._sequence = 0  # rises through every change of state: consumers take a lower number for an old one
        self._stops = self._refused = 0
        self._last_refusal = ""
        self._made: list[Any] = []
        self._subscription: Subscription | None = None
        self._timer: Timer | None = None

    def configure(self) -> None:
        """Read the rate and make the topics.

        Raises:
            ContractError: when `max_rate` is out of its range.
        """
        rate = float(self.parameter("max_rate", 5.0, f"tasks per second, {MIN_RATE} to {MAX_RATE}"))
        if not MIN_RATE <= rate <= MAX_RATE:
            raise ContractError(f"max_rate is {rate}, expected {MIN_RATE} to {MAX_RATE} tasks per second")
        self._tasks: RateLimiter[str] = RateLimiter(1.0 / rate)
        self._refusals: RateLimiter[str] = RateLimiter(1.0 / REFUSALS_PER_SECOND)
        self._task = self.create_publisher(InstructionMessage, "/vla/task", qos("task"))
        self._made.append(self._task)
        self._rejected = self.create_publisher(String, "/vla/instruction_rejected", qos("instruction"))
        self._made.append(self._rejected)

    def activate(self) -> None:
        """Begin to listen."""
        self._subscription = self.create_subscription(
            String, "/vla/instruction", self._on_instruction, qos("instruction")
        )
        # The steady clock: simulation time may stand still, and a jump of it must neither block nor flood.
        self._timer = self.create_timer(POLL_PERIOD, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def deactivate(self) -> None:
        """Stop listening; what waits is forgotten."""
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        self._tasks.restart(time.monotonic())
        self._refusals.restart(time.monotonic())

    def cleanup(self) -> None:
        """Take the topics away."""
        for publisher in self._made:
            self.destroy_publisher(publisher)
        self._made = []

    def health(self) -> list[DiagnosticStatus]:
        """Report what came, what passed and, until the next good instruction, why the last one was refused."""
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
        now = time.monotonic()
        # Before any validation: a stop that is too long or garbled is still a stop.
        if is_stop(message.data):
            self._tasks.restart(now)  # a task from before the stop must not come after it
            self._stops += 1
            self._publish(_stop_text(message.data), InstructionKind.STOP)
            return
        try:
            text = normalise_instruction(message.data)
        except InstructionError as error:
            self._refused += 1
            self._last_refusal = str(error)
            self._answer(self._refusals.offer(self._last_refusal, now))
            return
        for ready in self._tasks.offer(text, now):
            self._publish(ready, InstructionKind.TASK)

    def _poll(self) -> None:
        now = time.monotonic()
        for text in self._tasks.due(now):
            self._publish(text, InstructionKind.TASK)
        self._answer(self._refusals.due(now))

    def _publish(self, text: str, kind: InstructionKind) -> None:
        self._sequence += 1
        self._last_refusal = ""
        stamp = self.get_clock().now().nanoseconds / NANOSECONDS
        self._task.publish(instruction_to_message(Instruction(text, self._sequence, kind, stamp)))

    def _answer(self, refusals: list[str]) -> None:
        for sentence in refusals:
            self.get_logger().warning(f"refused: {sentence}")
            self._rejected.publish(String(data=sentence))


def _stop_text(text: str) -> str:
    try:
        return normalise_instruction(text)
    except InstructionError:
        return STOP_TEXT


def main() -> int:
    """Run the node."""
    return run_node(InstructionNode)


if __name__ == "__main__":
    raise SystemExit(main())
