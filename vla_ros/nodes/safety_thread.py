"""The threads of the safety node: one that ticks at deadlines of the steady clock, and one that watches over it.

    control thread    every period: requests of the executor's thread, one tick
    watch             a command that is late by more than the budget: the next row of the known stop goes out instead

In lock step one joint state is one tick, its stamp is the clock, and nothing can be late.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from sensor_msgs.msg import JointState

from vla_ros.nodes.conversions import stamp_to_seconds
from vla_ros.nodes.safety_control import SafetyControl

ANSWER_TIMEOUT = 1.0
"""Longest time until the control thread has dealt with a request, s."""

SHORTEST_LOOK = 1e-3
"""The watch looks no more often than this, s."""

JOIN_TIMEOUT = 1.0

Answer = TypeVar("Answer")


class ControlThread:
    """Runs one `SafetyControl`. `post`, `ask` and `offer_joint_state` are for other threads."""

    def __init__(self, control: SafetyControl, budget: float, lockstep: bool) -> None:
        """Prepare; `budget` is what a command may be late, s."""
        self._control, self._budget, self._lockstep = control, budget, lockstep
        self._change = threading.Condition()
        self._requests: deque[Callable[[], None]] = deque(maxlen=8)
        self._joint_states: deque[JointState] = deque(maxlen=1)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def running(self) -> bool:
        """Say whether the control thread runs."""
        return bool(self._threads) and self._threads[0].is_alive()

    def start(self) -> None:
        """Begin to tick."""
        self._stopping.clear()
        loops = (self._run_lockstep,) if self._lockstep else (self._run, self._watch)
        self._threads = [threading.Thread(target=loop, name=loop.__name__, daemon=True) for loop in loops]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads."""
        self._stopping.set()
        with self._change:
            self._change.notify_all()
        for thread in self._threads:
            thread.join(timeout=JOIN_TIMEOUT)
        self._threads = []

    def now(self) -> float:
        """Return the clock of the ticks, s."""
        return self._control.lockstep_time if self._lockstep else time.monotonic()

    def offer_joint_state(self, message: JointState) -> None:
        """In lock step: let a tick answer this state."""
        with self._change:
            self._joint_states.append(message)
            self._change.notify_all()

    def post(self, request: Callable[[], None]) -> None:
        """Let the control thread do something before its next tick."""
        with self._change:
            self._requests.append(request)
            self._change.notify_all()

    def ask(self, request: Callable[[], Answer], otherwise: Answer) -> Answer:
        """Let the control thread do something, and return its answer; `otherwise` when it does not run."""
        answers: list[Answer] = []
        done = threading.Event()

        def answer() -> None:
            answers.append(request())
            done.set()

        if not self.running:
            return otherwise
        self.post(answer)
        return answers[0] if done.wait(ANSWER_TIMEOUT) else otherwise

    def _run(self) -> None:
        period = self._control.period
        deadline = time.monotonic()
        while not self._stopping.is_set():
            deadline += period
            delay = deadline - time.monotonic()
            if delay > 0.0:
                time.sleep(delay)
            else:
                deadline -= delay  # late: the tick counts as missed, it is not made up for
            self._answer_requests()
            self._attempt(self._control.tick, time.monotonic())

    def _watch(self) -> None:
        """See that a command goes out in every period, whatever the control thread is doing."""
        period = self._control.period
        while not self._stopping.is_set():
            due = self._control.commanded_at + period + self._budget
            delay = due - time.monotonic()
            if delay <= 0.0:
                self._attempt(self._control.tick_instead, time.monotonic())
            time.sleep(min(max(delay, SHORTEST_LOOK), period))

    def _run_lockstep(self) -> None:
        while not self._stopping.is_set():
            with self._change:
                self._change.wait_for(
                    lambda: self._stopping.is_set() or bool(self._requests) or bool(self._joint_states), timeout=0.5
                )
                message = self._joint_states.popleft() if self._joint_states else None
            self._answer_requests()
            if message is not None:
                self._attempt(self._control.lockstep_tick, stamp_to_seconds(message.header.stamp))

    def _attempt(self, tick: Callable[[float], object], now: float) -> None:
        try:
            tick(now)
        except Exception:  # no command goes out; the watch, or the controller's own time-out, holds the arm until then
            self._control.note(f"a tick failed:\n{traceback.format_exc()}")

    def _answer_requests(self) -> None:
        while self._requests:
            self._requests.popleft()()
