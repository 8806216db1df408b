"""The action /vla/execute_instruction: an instruction with feedback, a result, and a cancel that stops the arm.

It uses the same topics as any operator and can do nothing that an operator cannot: it neither arms nor commands. It
serves one goal at a time; a newer goal supersedes it, as a newer instruction does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.subscription import Subscription
from rclpy.task import Future
from rclpy.timer import Timer
from std_msgs.msg import String

from vla_ros.action import ExecuteInstruction
from vla_ros.errors import InstructionError
from vla_ros.language.instruction import normalize_instruction
from vla_ros.language.stop import is_stop
from vla_ros.msg import Instruction, PolicyStatus, SafetyStatus, TaskStatus
from vla_ros.nodes.action.instruction_goal import End, InstructionGoal, Outcome, is_newer
from vla_ros.nodes.instruction_node import STOP_TEXT
from vla_ros.ros.lifecycle import ManagedNode, diagnostic, run_node
from vla_ros.ros.messages.conversions import NANOSECONDS
from vla_ros.ros.qos import qos

ACTION = "vla/execute_instruction"
PERIOD = 0.1
"""Period of checking the goal and publishing feedback, s on the steady clock."""

REST_TIMEOUT = 3.0
"""Maximum time that a cancel waits for the arm to rest, s; a stop takes a fraction of it."""

MAX_TIME_LIMIT = 3600.0
"""Maximum time limit of a goal, s."""

_SUCCEEDED, _ABORTED, _CANCELED = "succeed", "abort", "canceled"


class ActionNode(ManagedNode):
    """Action server of /vla/execute_instruction."""

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("action_node")
        self._server: ActionServer | None = None
        self._timer: Timer | None = None
        self._made: list[Callable[[], object]] = []
        self._goal: InstructionGoal | None = None
        self._waiting: list[Future] = []
        self._policy: Subscription | None = None
        self._known: Instruction | None = None
        self._safety: SafetyStatus | None = None
        self._served = self._succeeded = 0

    def configure(self) -> None:
        """Create the publisher and the subscriptions."""
        publisher = self.create_publisher(String, "vla/instruction", qos("instruction"))
        self._made.append(lambda: self.destroy_publisher(publisher))
        self._say = publisher.publish
        self._listen(Instruction, "vla/task", self._on_task, "task")
        self._listen(String, "vla/instruction_rejected", self._on_rejection, "instruction")
        self._listen(SafetyStatus, "vla/safety_status", self._on_safety, "status")
        self._listen(TaskStatus, "vla/task_status", self._on_verdict, "status")

    def activate(self) -> None:
        """Start accepting goals."""
        self._server = ActionServer(
            self, ExecuteInstruction, ACTION, self._execute, goal_callback=self._judge, cancel_callback=self._cancel
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(PERIOD, self._wake, clock=steady)

    def deactivate(self) -> None:
        """Cancel the running goal, with a stop instruction if there is one, and accept no more."""
        if self._goal is not None:
            self._say(String(data=STOP_TEXT))
            self._goal.cancel()
            self._goal = None
        self._hear_policy(False)
        if self._server is not None:
            self._server.destroy()
            self._server = None
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None

    def cleanup(self) -> None:
        """Destroy the publisher and the subscriptions."""
        while self._made:
            self._made.pop()()

    def health(self) -> list[DiagnosticStatus]:
        """Report the running goal."""
        if not self.active:
            return []
        sentence = f"'{self._goal.text}': {self._goal.sentence}" if self._goal else "no goal"
        figures = {"goals": self._served, "succeeded": self._succeeded}
        return [diagnostic(self.get_name(), DiagnosticStatus.OK, sentence, figures)]

    def _listen(self, kind: type, topic: str, callback: Callable[[Any], None], profile: str) -> None:
        subscription = self.create_subscription(kind, topic, callback, qos(profile))
        self._made.append(lambda: self.destroy_subscription(subscription))

    def _hear_policy(self, wanted: bool) -> None:
        """Subscribe to the policy status (50 messages/s) only while there is a goal."""
        if wanted and self._policy is None:
            self._policy = self.create_subscription(PolicyStatus, "vla/policy_status", self._on_policy, qos("status"))
        elif not wanted and self._policy is not None:
            self.destroy_subscription(self._policy)
            self._policy = None

    # Subscription callbacks.

    def _on_task(self, message: Instruction) -> None:
        if self._goal is not None:
            self._goal.hear_task(message)
        if is_newer(message, self._known):
            self._known = message

    def _on_rejection(self, message: String) -> None:
        if self._goal is not None:
            self._goal.hear_rejection(message.data)

    def _on_safety(self, message: SafetyStatus) -> None:
        self._safety = message
        if self._goal is not None:
            self._goal.hear_safety(message, time.monotonic())

    def _on_policy(self, message: PolicyStatus) -> None:
        if self._goal is not None:
            self._goal.hear_policy(message)

    def _on_verdict(self, message: TaskStatus) -> None:
        if self._goal is not None:
            self._goal.hear_verdict(message)

    # Action server callbacks.

    def _judge(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        """Reject a goal that cannot be a task, or that an unarmed robot would not execute.

        A stop is forwarded all the same: no stop is ever swallowed.
        """
        if is_stop(request.instruction):
            self._say(String(data=request.instruction))
            self.get_logger().warning("a goal was an order to stop: passed on, and not taken as a task")
            return GoalResponse.REJECT
        limit = _seconds(request.time_limit)
        try:
            normalize_instruction(request.instruction)
        except InstructionError as error:
            self.get_logger().warning(f"goal refused: {error}")
            return GoalResponse.REJECT
        if not 0.0 < limit <= MAX_TIME_LIMIT:
            self.get_logger().warning(f"goal refused: a time limit of {limit} s, expected 0 to {MAX_TIME_LIMIT:.0f} s")
            return GoalResponse.REJECT
        if self._safety is not None and not self._safety.armed:  # without any status, the goal ends with "no_graph"
            self.get_logger().warning(f"goal refused: the robot is not armed: {self._safety.sentence}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        """Publish the stop at once, before any bookkeeping."""
        del handle
        self._say(String(data=STOP_TEXT))
        return CancelResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle) -> ExecuteInstruction.Result:
        """Follow one goal to its end."""
        if self._goal is not None:
            self._goal.outcome = self._goal.outcome or Outcome(End.SUPERSEDED, "a newer goal took its place")
        text = normalize_instruction(handle.request.instruction)
        limit = _seconds(handle.request.time_limit)
        goal = InstructionGoal(text, limit, self._now(), time.monotonic(), self._known)
        self._goal, self._served = goal, self._served + 1
        self._hear_policy(True)
        while goal.outcome is None and not handle.is_cancel_requested:
            if goal.must_say(time.monotonic()):
                self._say(String(data=text))
            await self._next_look()
            goal.look_at_clock(self._now(), time.monotonic())
            handle.publish_feedback(_feedback(goal))
        if handle.is_cancel_requested and (goal.outcome is None or goal.outcome.end is not End.DONE):
            await self._wait_for_rest(goal)
            goal.outcome = Outcome(End.CANCELED, f"canceled: the arm was ordered to stop, it is in {goal.phase}")
        return self._finish(handle, goal)

    def _finish(self, handle: ServerGoalHandle, goal: InstructionGoal) -> ExecuteInstruction.Result:
        outcome = goal.outcome or Outcome(End.NO_GRAPH, "the server ends")
        if self._goal is goal:
            self._goal = None
            self._hear_policy(False)
            if outcome.end in (End.TIME_LIMIT, End.FAULT, End.NO_GRAPH):
                self._say(String(data=STOP_TEXT))  # the client no longer waits for it, so the arm must not continue
        success = outcome.end is End.DONE
        self._succeeded += success
        getattr(handle, _SUCCEEDED if success else _CANCELED if handle.is_cancel_requested else _ABORTED)()
        return ExecuteInstruction.Result(
            success=success,
            reason=outcome.end.value,
            message=outcome.sentence[:256],
            duration=_duration(max(self._now() - goal.began, 0.0)),
        )

    async def _wait_for_rest(self, goal: InstructionGoal) -> None:
        end = time.monotonic() + REST_TIMEOUT
        await self._next_look()
        while not goal.resting and time.monotonic() < end:
            await self._next_look()

    def _next_look(self) -> Future:
        future = Future(executor=self.executor)
        self._waiting.append(future)
        return future

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds) / NANOSECONDS


def _seconds(duration: Duration) -> float:
    return float(duration.sec) + float(duration.nanosec) / NANOSECONDS


def _duration(seconds: float) -> Duration:
    return Duration(sec=int(seconds), nanosec=int((seconds % 1.0) * NANOSECONDS))


def _feedback(goal: InstructionGoal) -> ExecuteInstruction.Feedback:
    return ExecuteInstruction.Feedback(
        progress=goal.progress, trust=goal.trust, phase=goal.phase[:16], sentence=goal.sentence[:256]
    )


def main() -> int:
    """Run the node."""
    return run_node(ActionNode)


if __name__ == "__main__":
    raise SystemExit(main())
