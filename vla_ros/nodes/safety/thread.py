"""Threads of the safety node: one that ticks at deadlines of the steady clock, and its watchdog.

    control thread    every period: requests of the executor's thread, one tick; always a pause in between
    watchdog          when a command is late by more than the budget: sends the next row of the known stop instead

In lockstep one joint state is one tick, its stamp is the clock, and nothing can be late.
"""

from __future__ import annotations

import functools
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from sensor_msgs.msg import JointState

from vla_ros.nodes.safety.control import SafetyControl
from vla_ros.ros.messages.conversions import stamp_to_seconds

ANSWER_TIMEOUT = 1.0
"""Timeout for the control thread to process a request, s."""

MOST_REQUESTS = 8
"""Maximum number of queued requests; further ones are refused. Disarming does not count: it is always accepted."""

SHORTEST_LOOK = 1e-3
"""Minimum period of the watchdog, s."""

PAUSE = 1e-3
"""Minimum sleep before a late tick, s. With a real-time priority nothing else would run on that CPU otherwise, not even
the receiver of the emergency stop.
"""

PAUSE_SHARE = 0.1
"""Upper bound of this minimum before a punctual tick, as a fraction of the period: rates go up to 1 kHz."""

JOIN_TIMEOUT = 1.0

Answer = TypeVar("Answer")


class ControlThread:
    """Runs one `SafetyControl`. All methods except `start` and `stop` are for other threads.

    A request that fails, or that times out after it has begun, is followed by disarming.
    """

    def __init__(self, control: SafetyControl, budget: float, lockstep: bool) -> None:
        """Prepare the threads; `budget` is the allowed lateness of a command, s."""
        self._control, self._budget, self._lockstep = control, budget, lockstep
        self._change = threading.Condition()
        self._requests: deque[Callable[[], object]] = deque()
        self._disarming = False
        self._joint_states: deque[JointState] = deque(maxlen=1)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def running(self) -> bool:
        """Whether the control thread is running."""
        return bool(self._threads) and self._threads[0].is_alive()

    @property
    def ended(self) -> tuple[str, ...]:
        """Names of the threads that have ended unexpectedly."""
        return tuple(thread.name for thread in self._threads if not thread.is_alive())

    def start(self) -> None:
        """Start ticking."""
        self._stopping.clear()
        with self._change:
            self._requests.clear()
            self._disarming = False
        control = self._run_lockstep if self._lockstep else self._run
        threads = [threading.Thread(target=control, name="control thread", daemon=True)]
        if not self._lockstep:
            threads.append(threading.Thread(target=self._watch, name="watch", daemon=True))
        for thread in threads:
            thread.start()
        self._threads = threads

    def stop(self) -> None:
        """End the threads."""
        self._stopping.set()
        with self._change:
            self._change.notify_all()
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(timeout=JOIN_TIMEOUT)

    def now(self) -> float:
        """Return the time on the clock of the ticks, s."""
        return self._control.lockstep_time if self._lockstep else time.monotonic()

    def offer_joint_state(self, message: JointState) -> None:
        """In lockstep: trigger a tick with this state."""
        with self._change:
            self._joint_states.append(message)
            self._change.notify_all()

    def post(self, request: Callable[[], object]) -> bool:
        """Queue a request for before the next tick; return False if the queue is full."""
        with self._change:
            if len(self._requests) >= MOST_REQUESTS:
                return False
            self._requests.append(request)
            self._change.notify_all()
            return True

    def ask(self, request: Callable[[], Answer], otherwise: Answer) -> Answer:
        """Run a request in the control thread and return its result.

        Returns `otherwise` if the thread is not running, does not get to the request in time, or fails in it. The
        request then does not happen later either: one that has not begun is withdrawn, and one that has begun is
        followed by disarming.
        """
        answers: list[Answer] = []
        done = threading.Event()

        def answer() -> None:
            try:
                answers.append(request())
            finally:
                done.set()

        if not self.running or not self.post(answer):
            return otherwise
        done.wait(ANSWER_TIMEOUT)
        with self._change:
            if answer in self._requests:
                self._requests.remove(answer)
            elif not done.is_set():
                self._disarming = True
            return answers[0] if answers and done.is_set() else otherwise

    def request_disarm(self) -> None:
        """Request disarming; requests that have not begun are dropped."""
        with self._change:
            self._requests.clear()
            self._disarming = True
            self._change.notify_all()

    def disarm(self) -> bool:
        """Call `request_disarm` and return whether it was done in time; otherwise it is done as soon as possible."""
        if not self.running:
            return False
        self.request_disarm()
        with self._change:
            return self._change.wait_for(lambda: not self._disarming, ANSWER_TIMEOUT)

    def _run(self) -> None:
        period = self._control.period
        deadline = time.monotonic()
        while not self._stopping.is_set():
            deadline += period
            delay = deadline - time.monotonic()
            if delay > 0.0:
                time.sleep(max(delay, min(PAUSE, PAUSE_SHARE * period)))
            else:
                deadline += period * (-delay // period)  # late: skip the ticks that are over, keep the grid
                time.sleep(PAUSE)
            self._answer_requests()
            self._attempt("a tick", lambda: self._control.tick(time.monotonic()))

    def _watch(self) -> None:
        """Ensure one command per period, whatever the control thread is doing."""
        period = self._control.period
        while not self._stopping.is_set():
            due = self._control.command_due + self._budget
            delay = due - time.monotonic()
            if delay <= 0.0:
                self._attempt("the watch", lambda: self._control.on_deadline_missed(time.monotonic()))
            time.sleep(min(max(delay, SHORTEST_LOOK), period))

    def _run_lockstep(self) -> None:
        while not self._stopping.is_set():
            with self._change:
                self._change.wait_for(
                    lambda: self._stopping.is_set() or self._disarming or self._requests or self._joint_states,
                    timeout=0.5,
                )
                message = self._joint_states.popleft() if self._joint_states else None
            self._answer_requests()
            if message is not None:
                now = stamp_to_seconds(message.header.stamp)
                self._attempt("a tick", functools.partial(self._control.lockstep_tick, now))

    def _attempt(self, what: str, step: Callable[[], object]) -> bool:
        try:
            step()
        except Exception:  # no command; meanwhile the watchdog, or the controller's own timeout, holds the arm
            self._control.note(f"{what} failed:\n{traceback.format_exc()}")
            return False
        return True

    def _answer_requests(self) -> None:
        """Disarm if requested, then process the later requests."""
        self._disarm_if_asked()
        while (request := self._take_request()) is not None:
            if not self._attempt("a request", request):
                self.request_disarm()
        self._disarm_if_asked()

    def _take_request(self) -> Callable[[], object] | None:
        with self._change:
            return self._requests.popleft() if self._requests and not self._disarming else None

    def _disarm_if_asked(self) -> None:
        if not self._disarming:
            return
        if not self._attempt("disarming", lambda: self._control.disarm(self.now())):
            time.sleep(SHORTEST_LOOK)  # retried before the next tick
            return
        with self._change:
            self._disarming = False
            self._change.notify_all()
