"""What became of a sentence that an operator said: what the nodes answered, and nothing that they did not.

A stop counts when the safety node has heard it, which it does by itself; a task counts when the instruction node took
it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vla_ros.language.stop import is_stop
from vla_ros.nodes.observer import MOVING, Observer
from vla_ros.nodes.operator_client import ASK_AGAIN, Operator, make_request

GRACE = 2.0
"""Longest wait for the other node's answer to a stop, and for the arm to be held, s."""

FLUSH = 1.0
"""Longest wait until all readers have acknowledged what was sent, s."""


@dataclass(frozen=True)
class Said:
    """What is known of a sentence.

    Attributes:
        request_id: Under which it was sent.
        stop: It orders to stop.
        accepted: The instruction node took it.
        instruction: Number that it has there; None without one.
        heard_by_safety_node: The safety node has answered this very stop; None for a task, of which it does not answer.
        state: Of the safety layer, as its status says; "" when none was heard.
        reason: Of that state, likewise.
        delivered: Every reader has acknowledged it.
        refusal: Of the instruction node; "" without one.
    """

    request_id: str
    stop: bool
    accepted: bool
    instruction: int | None
    heard_by_safety_node: bool | None
    state: str
    reason: str
    delivered: bool
    refusal: str

    @property
    def still(self) -> bool:
        """Say whether the safety layer says that the arm follows no policy."""
        return self.state in ("HOLD", "ESTOP", "DISARMED")

    @property
    def done(self) -> bool:
        """Say whether the graph does what was asked for: a stop is heard and held, a task is taken."""
        return bool(self.heard_by_safety_node) and self.still if self.stop else self.accepted

    def sentences(self, timeout: float) -> list[str]:
        """Return what to tell the operator, who waited at most `timeout` s."""
        return self._of_stop() if self.stop else self._of_task(timeout)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {**asdict(self), "done": self.done}

    def _of_task(self, timeout: float) -> list[str]:
        if self.accepted:
            return [f"accepted as instruction {self.instruction}"]
        if self.refusal:
            return [f"refused: {self.refusal}"]
        lines = [f"not accepted: the instruction node did not answer within {timeout:.1f} s; it hangs or is not there"]
        return [*lines, 'it may still take the sentence when it goes on; say "stop" to be sure that it does not']

    def _of_stop(self) -> list[str]:
        where = f"{self.state} ({self.reason})" if self.state else "unknown: the safety layer says nothing"
        if self.heard_by_safety_node and self.still:
            lines = [f"stopped: the safety layer has heard it; its state is {where}"]
        elif self.heard_by_safety_node:
            lines = [f"heard by the safety layer, but its state is {where}: press the emergency stop"]
        else:
            lines = [f"NOT confirmed by the safety layer, whose state is {where}: press the emergency stop"]
        if self.accepted:
            return [*lines, f"accepted as instruction {self.instruction}"]
        return [
            *lines,
            "the instruction node has not answered: it hangs or is not there, and takes no task until it is back",
        ]


def say(operator: Operator, observer: Observer, text: str, timeout: float) -> Said:
    """Say `text`, and return what came of it within `timeout` s; a stop takes up to twice `GRACE` longer."""
    request, stop = make_request(text), is_stop(text)

    def taken() -> bool:
        return request.id in observer.taken or request.id in observer.refused

    def heard() -> bool:
        return request.id in observer.stops_heard

    operator.send(request, heard if stop else taken, timeout)
    if stop:
        if not observer.wait(taken, ASK_AGAIN):  # the readers of the two nodes are found one after the other
            operator.send(request, taken, GRACE)
        # The status of the tick that heard it goes another way than the answer.
        observer.wait(lambda: bool(observer.safety.state_name) and observer.safety.state not in MOVING, GRACE)
    number = observer.taken.get(request.id)
    return Said(
        request_id=request.id,
        stop=stop,
        accepted=number is not None,
        instruction=number,
        heard_by_safety_node=heard() if stop else None,
        state=str(observer.safety.state_name),
        reason=str(observer.safety.reason),
        delivered=operator.flush(FLUSH),
        refusal="" if number is not None else observer.refused.get(request.id, ""),
    )
