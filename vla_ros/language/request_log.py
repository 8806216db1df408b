"""Requests by their id: a repetition of one is answered again, and not carried out again."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.errors import InstructionError
from vla_ros.language.instruction import quoted

MEMORY = 256
"""Requests that are remembered; of more, the newest."""


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Attributes:
        request_id: Whose.
        sequence: Number of the instruction that it became; None when it was refused.
        sentence: Why it was refused; empty when it was not.
    """

    request_id: str
    sequence: int | None
    sentence: str = ""


class RequestLog:
    """The newest requests and their answers; what is remembered is bounded."""

    def __init__(self) -> None:
        """Start with none."""
        self._texts: dict[str, int] = {}
        self._answers: dict[str, Answer] = {}

    def begin(self, request_id: str, text: str) -> bool:
        """Take a request; False when it is a repetition.

        Raises:
            InstructionError: when the id is empty, or stands for another text already.
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
        """Keep the answer to a request, known or not, and return it."""
        answer = Answer(request_id, sequence, sentence)
        self._remember(request_id, hash(text))
        self._answers[request_id] = answer
        return answer

    def answer(self, request_id: str) -> Answer | None:
        """Return the answer, None while there is none."""
        return self._answers.get(request_id)

    def _remember(self, request_id: str, mark: int) -> None:
        self._texts.pop(request_id, None)
        self._texts[request_id] = mark
        if len(self._texts) > MEMORY:
            oldest = next(iter(self._texts))
            del self._texts[oldest]
            self._answers.pop(oldest, None)
