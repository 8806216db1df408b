"""State of one goal of the action server: what was received, and whether it has ended. Knows messages, not topics.

    sent      ->  accepted (it is the graph's task)  |  refused  |  no_graph
    accepted  ->  done  |  time_limit  |  superseded  |  stopped  |  fault  |  no_graph

Only the success checker on /vla/task_status decides success: without one, a goal runs to its time limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vla_ros.msg import Instruction, PolicyStatus, SafetyStatus, TaskStatus
from vla_ros.ros.messages.conversions import stamp_to_seconds

SAY_AGAIN = 1.0
"""Period of repeating an instruction that has not been accepted, s."""

TAKEN_WITHIN = 5.0
"""Maximum time until the instruction node has accepted the instruction, s."""

SILENCE = 2.0
"""Silence of the safety layer (which publishes 20 times a second) after which it counts as gone, s."""

PATIENCE = 10.0
"""Maximum wall-clock time per second of the time limit, for simulation time that runs slowly or stands still."""


class End(str, Enum):
    """Why a goal ended; the values are those of the action's `reason`."""

    DONE = "done"
    TIME_LIMIT = "time_limit"
    CANCELED = "canceled"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    STOPPED = "stopped"
    FAULT = "fault"
    NO_GRAPH = "no_graph"


@dataclass(frozen=True)
class Outcome:
    """How a goal ended, and a human-readable sentence."""

    end: End
    sentence: str


def is_newer(message: Instruction, known: Instruction | None) -> bool:
    """Return whether the graph accepted `message` after `known`, as `ChunkGate` does.

    A lower number with a newer stamp comes from an instruction node that was restarted.
    """
    if known is None or message.sequence > known.sequence:
        return True
    return stamp_to_seconds(message.header.stamp) > stamp_to_seconds(known.header.stamp)


class InstructionGoal:
    """Follows one instruction. Times in s: `now` on the server's clock, `steady` on the steady clock."""

    def __init__(self, text: str, time_limit: float, now: float, steady: float, known: Instruction | None) -> None:
        """Begin to follow the normalized `text`. Only tasks that the graph accepts after `known` can match it."""
        self.text, self.time_limit = text, time_limit
        self.began, self._began_steady = now, steady
        self._said_at: float | None = None
        self._known = known
        self.sequence: int | None = None
        self._safety: SafetyStatus | None = None
        self._heard_safety = steady
        self._was_armed = False
        self._policy: PolicyStatus | None = None
        self._verdict: TaskStatus | None = None
        self.outcome: Outcome | None = None

    def must_say(self, steady: float) -> bool:
        """Return whether to publish the instruction now, and if so, record that it was."""
        if self.sequence is not None or (self._said_at is not None and steady - self._said_at < SAY_AGAIN):
            return False
        self._said_at = steady
        return True

    def hear_task(self, message: Instruction) -> None:
        """Process an instruction that the graph has accepted."""
        if self._said_at is None or not is_newer(message, self._known):
            return
        self._known = message
        if message.kind == Instruction.STOP:
            self._finish(End.STOPPED, f"a stop was ordered: '{message.text}'")
        elif message.text == self.text:
            self.sequence = int(message.sequence)
        elif self.sequence is not None:
            self._finish(End.SUPERSEDED, f"the graph was given another task: '{message.text}'")

    def hear_rejection(self, sentence: str) -> None:
        """Process a refusal; it is attributed to this goal while it waits for its answer."""
        if self._said_at is not None and self.sequence is None:
            self._finish(End.REFUSED, sentence)

    def hear_safety(self, message: SafetyStatus, steady: float) -> None:
        """Process a status of the safety layer."""
        self._safety, self._heard_safety = message, steady
        if message.state == SafetyStatus.ESTOP:
            self._finish(End.STOPPED, message.sentence)
        elif self._was_armed and not message.armed:
            self._finish(End.STOPPED, "the robot was disarmed")
        self._was_armed = self._was_armed or message.armed

    def hear_policy(self, message: PolicyStatus) -> None:
        """Process a status of the policy; a fault with this instruction ends the goal."""
        self._policy = message
        if message.state == PolicyStatus.FAULT and message.instruction_sequence == self.sequence:
            self._finish(End.FAULT, message.sentence)

    def hear_verdict(self, message: TaskStatus) -> None:
        """Process a verdict of the success checker; those about another task are ignored."""
        if self.sequence is None or message.instruction != self.text:
            return
        self._verdict = message
        if message.success:
            self._finish(End.DONE, message.detail)

    def look_at_clock(self, now: float, steady: float) -> None:
        """End the goal if a time limit has passed."""
        waited = steady - self._began_steady
        if self.sequence is None and waited > TAKEN_WITHIN:
            self._finish(End.NO_GRAPH, f"nobody took the sentence within {TAKEN_WITHIN:.0f} s: is the graph active?")
        elif self.sequence is not None and steady - self._heard_safety > SILENCE:
            self._finish(End.NO_GRAPH, f"the safety layer has been silent for {SILENCE:.0f} s")
        elif now - self.began > self.time_limit or waited > PATIENCE * self.time_limit + TAKEN_WITHIN:
            judged = self._verdict.detail if self._verdict else "no judge speaks on /vla/task_status"
            self._finish(End.TIME_LIMIT, f"not done within {self.time_limit:.1f} s: {judged}")

    def cancel(self) -> None:
        """End the goal at the client's request."""
        self._finish(End.CANCELED, "canceled: the arm was ordered to stop")

    @property
    def phase(self) -> str:
        """State of the safety layer; "WAITING" until its first status."""
        return str(self._safety.state_name) if self._safety else "WAITING"

    @property
    def resting(self) -> bool:
        """Whether the safety layer no longer moves the arm."""
        return self.phase in ("WAITING", "HOLD", "DISARMED", "ESTOP")

    @property
    def progress(self) -> float:
        """Progress reported by the success checker, 0 to 1; -1 without one."""
        return float(self._verdict.progress) if self._verdict else -1.0

    @property
    def trust(self) -> float:
        """Confidence of the policy in its latest chunk, 0 to 1; 0 before the first one."""
        return float(self._policy.trust) if self._policy else 0.0

    @property
    def sentence(self) -> str:
        """Human-readable description of the current state."""
        if self.sequence is None:
            return "waits for the graph to take the sentence"
        return str(self._safety.sentence) if self._safety else "waits for the safety layer"

    def _finish(self, end: End, sentence: str) -> None:
        if self.outcome is None:
            self.outcome = Outcome(end, sentence)
