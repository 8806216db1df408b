"""Execute the requests of pages in worker threads and keep a log of the results."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vla_ros.console.errors import RequestError
from vla_ros.console.estop_line import EstopLine
from vla_ros.console.link import Answer, GraphLink
from vla_ros.errors import VlaError

STOP_PHRASE = "stop"

AT_ONCE: Mapping[str, int] = {
    "instruct": 3,  # a new instruction replaces one that is still waiting for its answer
    "hold": 3,
    "disarm": 2,
    "arm": 1,
    "reset": 1,
    "start_recording": 1,
    "end_recording": 1,
}
"""Maximum number of concurrent requests per kind. Each has its own thread, so none queues, least of all a stop behind a
task.
"""

KEPT = 100
"""Maximum number of events kept."""


class Commands:
    """Used from the event loop that serves the pages.

    Attributes:
        events: Requests and their results, oldest first, JSON-serializable.
    """

    def __init__(self, link: GraphLink, line: EstopLine, changed: Callable[[], None]) -> None:
        """Command the graph behind `link`; `changed` is called after every change of `events`."""
        self._link, self._line, self._changed = link, line, changed
        self._threads = ThreadPoolExecutor(sum(AT_ONCE.values()), thread_name_prefix="console command")
        self._under_way: Counter[str] = Counter()
        self._number = 0
        self.events: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def close(self) -> None:
        """Start nothing more; requests in progress end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def note(self, who: str, what: str, text: str, answer: Answer | None = None) -> dict[str, Any]:
        """Log an event; without an `answer` it is in progress."""
        self._number += 1
        event = {
            "number": self._number,
            "time": time.time(),
            "who": who,
            "what": what,
            "text": text,
            "done": None,
            "answer": "",
        }
        if answer is not None:
            event.update(done=answer.done, answer=answer.text)
        self.events.append(event)
        self._changed()
        return event

    async def run(self, who: str, kind: str, fields: Mapping[str, Any]) -> Answer:
        """Execute a request that has been parsed and authorized.

        Raises:
            RequestError: when the maximum number of requests of this kind is in progress.
        """
        if self._under_way[kind] >= AT_ONCE[kind]:
            raise RequestError(f"{kind}: {AT_ONCE[kind]} of it under way already; wait for the answer")
        self._under_way[kind] += 1
        event = self.note(who, kind, str(fields.get("text", "")))
        try:
            work = functools.partial(self._carry_out, kind, fields)
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._under_way[kind] -= 1
        event.update(done=answer.done, answer=answer.text)
        self._changed()
        return answer

    def _carry_out(self, kind: str, fields: Mapping[str, Any]) -> Answer:
        link = self._link
        try:
            if kind == "instruct":
                return link.instruct(fields["text"])
            if kind == "hold":
                return link.instruct(STOP_PHRASE)
            if kind == "reset":
                return self._reset(int(fields["presses"]))
            if kind == "end_recording":
                return link.end_recording(fields["success"], fields["keep"])
            simple = {"arm": link.arm, "disarm": link.disarm, "start_recording": link.start_recording}
            return simple[kind]()
        except VlaError as error:
            return Answer(False, str(error))
        except Exception as error:  # the page must learn that the request failed
            return Answer(False, f"{type(error).__name__}: {error}")

    def _reset(self, presses: int) -> Answer:
        if not self._line.release(presses):
            return Answer(False, "the emergency stop was pressed again: look at the robot, then reset")
        return self._link.reset()
