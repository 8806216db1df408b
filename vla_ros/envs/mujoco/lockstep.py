"""Lock step: when simulation time may go on, so that the speed of the machine has no part in what happens.

An instant is over when its commands for the arm and for the gripper have come and, if there is a task, the policy has
answered the newest frames. A chunk alone is no answer: that it has arrived here does not mean that the safety node has
it. In lock step the policy node waits until every reader has its chunk, then it publishes its count of inferences:
that count is the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

COMMANDED = ("arm", "gripper")
"""What is commanded of an arm at every instant, each on a topic of its own; all have to come, in any order."""

FIRST_REPEAT = 0.25
"""An instant that nobody has answered yet is said again after this wall time, for whoever joined late, s."""

REPEAT = 5.0
"""The same once answers have come: something was lost, or the robot is not armed any more, s."""

POLICY_REPEAT = 1.0
"""Frames that are still unanswered after this wall time are taken again, for whoever missed them, s."""

POLICY_WAIT = 10.0
"""Longest wall time to wait for the answer to the newest frames, s."""

FRAME_SKEW = 0.05
"""How far an observation's stamp may lie before its frames, s: it is the oldest stamp of its parts."""

_TICK = 1e6  # times are compared in whole microseconds


class LockstepGate:
    """Waits for answers. `change` guards it; other threads call `answer` and `chunk_arrived` with the lock held."""

    def __init__(
        self, change: threading.Condition, interrupted: Callable[[], bool], warn: Callable[[str], None], arms: int = 1
    ) -> None:
        """Wait on `change` for the commands of `arms` arms, and not once `interrupted` says that other work is due."""
        self._change, self._interrupted, self._warn = change, interrupted, warn
        parts = [(what, arm) for arm in range(arms) for what in COMMANDED]
        self._answered_at: dict[tuple[str, int], float | None] = dict.fromkeys(parts)
        self._repeat = FIRST_REPEAT
        self._chunk_stamp = self._frame_time = self._frames_before = -np.inf
        self._inferences = self._inferences_before = 0
        self._fault = False
        self._given_up = -np.inf
        self._misses = 0

    def answer(self, what: str, stamp: float | None, arm: int = 0) -> None:
        """Take note of a command to `what` (one of `COMMANDED`) of arm number `arm` for the instant `stamp`, s."""
        self._answered_at[what, arm] = stamp
        self._change.notify_all()

    def chunk_arrived(self, observation_stamp: float) -> None:
        """Take note of a chunk for the observation of `observation_stamp`, s."""
        self._chunk_stamp = max(self._chunk_stamp, observation_stamp)
        self._change.notify_all()

    def policy_spoke(self, inferences: int, fault: bool) -> None:
        """Take note of how many inferences the policy has finished, and whether it is at fault: no chunk comes then."""
        self._inferences, self._fault = inferences, fault
        self._change.notify_all()

    def frames_taken(self, time: float) -> None:
        """Take note of new frames, which the policy has to answer."""
        with self._change:
            if time > self._frame_time:
                self._frames_before, self._frame_time = self._frame_time, time
                self._inferences_before = self._inferences

    def is_planned(self, now: float) -> bool:
        """Say whether the frames of the instant `now` are answered: shown again, they only make another chunk."""
        return self._frame_time == now and self._is_planned()

    @property
    def in_step(self) -> bool:
        """Whether the latest instant that was waited for was answered: somebody commands the robot."""
        return self._repeat == REPEAT

    def await_command(self, now: float) -> bool:
        """Wait for the commands of the instant `now`; False when it has to be shown again."""
        with self._change:
            self._change.wait_for(lambda: self._interrupted() or self._is_answered(now), timeout=self._repeat)
            done = self._is_answered(now)
            self._repeat = REPEAT if done else FIRST_REPEAT
            return done and not self._interrupted()

    def await_policy(self) -> bool:
        """Wait for the policy's answer to the newest frames; False when there is none, for one reason or another.

        Frames that have been without an answer for too long are warned of, and not waited for again.
        """
        if self._given_up == self._frame_time:
            return True
        with self._change:
            self._change.wait_for(lambda: self._interrupted() or self._is_planned(), timeout=POLICY_REPEAT)
            if self._interrupted():
                return False
            self._misses = 0 if self._is_planned() else self._misses + 1
        if self._misses * POLICY_REPEAT < POLICY_WAIT:
            return self._misses == 0
        self._misses, self._given_up = 0, self._frame_time
        self._warn(f"no chunk for the frames of {self._frame_time:.2f} s within {POLICY_WAIT} s: going on")
        return True

    def _is_answered(self, now: float) -> bool:
        wanted = round(now * _TICK)
        return all(stamp is not None and round(stamp * _TICK) == wanted for stamp in self._answered_at.values())

    def _is_planned(self) -> bool:
        return self._inferences > self._inferences_before and (self._fault or self._has_chunk())

    def _has_chunk(self) -> bool:
        return self._chunk_stamp > max(self._frames_before, self._frame_time - FRAME_SKEW)
