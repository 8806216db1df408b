"""Requests by id: a repeated request is answered again, but not executed again."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.errors import InstructionError
from vla_ros.language.instruction import quoted

MEMORY = 256
"""Maximum number of remembered requests; the newest are kept."""


@dataclass(frozen=True)
class Answer:
    """Result of a request.

    Attributes:
        request_id: Id of the request.
        sequence: Sequence number of the resulting instruction; None when the request was rejected.
        sentence: Reason of the rejection; empty when accepted.
    """

    request_id: str
    sequence: int | None
    sentence: str = ""


class RequestLog:
    """The newest requests and their answers, at most `MEMORY`."""

    def __init__(self) -> None:
        """Start empty."""
        self._texts: dict[str, int] = {}
        self._answers: dict[str, Answer] = {}

    def begin(self, request_id: str, text: str) -> bool:
        """Register a request; return False when it is a repetition.

        Raises:
            InstructionError: when the id is empty, or already belongs to another text.
        """
        if not request_id:
            raise InstructionError("the request has no id, expected a unique one such as a UUID")
        mark, known = hash(text), self._texts.get(request_id)
        if known is None:
            self._remember(request_id, mark)
            return True
        if known != mark:
            raise InstructionError(
                f"the id {quoted(request_id)} belongs to another sentence already, expected a new id for every sentence"
            )
        return False

    def settle(self, request_id: str, text: str, sequence: int | None, sentence: str = "") -> Answer:
        """Store and return the answer to a request, registered or not."""
        answer = Answer(request_id, sequence, sentence)
        self._remember(request_id, hash(text))
        self._answers[request_id] = answer
        return answer

    def answer(self, request_id: str) -> Answer | None:
        """Return the stored answer, or None."""
        return self._answers.get(request_id)

    def _remember(self, request_id: str, mark: int) -> None:
        self._texts.pop(request_id, None)
        self._texts[request_id] = mark
        if len(self._texts) > MEMORY:
            oldest = next(iter(self._texts))
            del self._texts[oldest]
            self._answers.pop(oldest, None)
