"""Send an operator's instruction and report only what the nodes have confirmed.

A stop is confirmed once the safety node itself has received it, a task once the instruction node has accepted it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vla_ros.client.observer import MOVING, Observer
from vla_ros.client.operator_client import ASK_AGAIN, Operator, make_request
from vla_ros.language.stop import is_stop

GRACE = 2.0
"""Maximum wait for the other node's answer to a stop, and for the arm to hold, s."""

FLUSH = 1.0
"""Maximum wait for all readers to acknowledge the message, s."""


@dataclass(frozen=True)
class Said:
    """Confirmed result of an instruction.

    Attributes:
        request_id: Id of the request.
        stop: It is a stop.
        accepted: The instruction node has accepted it.
        instruction: Its number there; None if it has none.
        acknowledged_by_safety_node: The safety node has acknowledged this very stop; None for a task, which it does not
            acknowledge.
        state: State of the safety layer from its status; "" if none was received.
        reason: Reason of that state.
        delivered: Every reader has acknowledged it.
        refusal: Reason of the instruction node's refusal; "" if it did not refuse.
    """

    request_id: str
    stop: bool
    accepted: bool
    instruction: int | None
    acknowledged_by_safety_node: bool | None
    state: str
    reason: str
    delivered: bool
    refusal: str

    @property
    def still(self) -> bool:
        """Whether the reported safety state means that the arm follows no policy."""
        return self.state in ("HOLD", "ESTOP", "DISARMED")

    @property
    def done(self) -> bool:
        """Whether the graph does what was requested: a stop is received and held, a task is accepted."""
        return bool(self.acknowledged_by_safety_node) and self.still if self.stop else self.accepted

    def sentences(self, timeout: float) -> list[str]:
        """Return the lines for the operator, who waited at most `timeout` s."""
        return self._of_stop() if self.stop else self._of_task(timeout)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
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
        if self.acknowledged_by_safety_node and self.still:
            lines = [f"stopped: the safety layer has heard it; its state is {where}"]
        elif self.acknowledged_by_safety_node:
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
    """Send `text` and return the result within `timeout` s; a stop takes up to twice `GRACE` longer."""
    request, stop = make_request(text), is_stop(text)

    def taken() -> bool:
        return request.id in observer.taken or request.id in observer.refused

    def heard() -> bool:
        return request.id in observer.stops_heard

    operator.send(request, heard if stop else taken, timeout)
    if stop:
        if not observer.wait(taken, ASK_AGAIN):  # the two nodes' readers are discovered one after the other
            operator.send(request, taken, GRACE)
        # The status of the tick that received it travels separately from the acknowledgement.
        observer.wait(lambda: bool(observer.safety.state_name) and observer.safety.state not in MOVING, GRACE)
    number = observer.taken.get(request.id)
    return Said(
        request_id=request.id,
        stop=stop,
        accepted=number is not None,
        instruction=number,
        acknowledged_by_safety_node=heard() if stop else None,
        state=str(observer.safety.state_name),
        reason=str(observer.safety.reason),
        delivered=operator.flush(FLUSH),
        refusal="" if number is not None else observer.refused.get(request.id, ""),
    )
