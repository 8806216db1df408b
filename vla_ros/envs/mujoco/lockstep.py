"""Lockstep: decides when simulation time may advance, so that results do not depend on the machine's speed.

An instant is over when its commands for the arm and for the gripper have arrived and, if there is a task, the policy
has answered the newest frames. A chunk alone is no answer: its arrival here does not mean that the safety node has
received it. In lockstep the policy node waits until every subscriber has received its chunk, then publishes its number
of inferences: that number is the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

COMMANDED = ("arm", "gripper")
"""Commands of an arm that every instant requires, each on its own topic, in any order."""

FIRST_REPEAT = 0.25
"""Wall time until an instant is repeated while nobody has answered yet, s: nodes may have joined late."""

REPEAT = 5.0
"""Wall time until an instant is repeated once answers arrive, s: a message was lost, or the robot is disarmed."""

POLICY_REPEAT = 1.0
"""Wall time after which unanswered frames are taken again for nodes that missed them, s."""

POLICY_WAIT = 10.0
"""Maximum wall time to wait for the answer to the newest frames, s."""

FRAME_SKEW = 0.05
"""Maximum age of an observation's stamp relative to its frames, s: it is the oldest stamp of its parts."""

_TICK = 1e6  # times are compared in whole microseconds


class LockstepGate:
    """Waits for answers. Guarded by `change`; other threads call `answer` and `chunk_arrived` with the lock held."""

    def __init__(
        self, change: threading.Condition, interrupted: Callable[[], bool], warn: Callable[[str], None], arms: int = 1
    ) -> None:
        """Create a gate that waits on `change` for `arms` arms' commands, unless `interrupted` reports other work."""
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
        """Record a command to `what` (one of `COMMANDED`) of arm number `arm` for the instant `stamp`, s."""
        self._answered_at[what, arm] = stamp
        self._change.notify_all()

    def chunk_arrived(self, observation_stamp: float) -> None:
        """Record a chunk for the observation of `observation_stamp`, s."""
        self._chunk_stamp = max(self._chunk_stamp, observation_stamp)
        self._change.notify_all()

    def policy_spoke(self, inferences: int, fault: bool) -> None:
        """Record the policy's number of finished inferences, and its fault flag: with a fault no chunk follows."""
        self._inferences, self._fault = inferences, fault
        self._change.notify_all()

    def frames_taken(self, time: float) -> None:
        """Record new frames, which the policy has to answer."""
        with self._change:
            if time > self._frame_time:
                self._frames_before, self._frame_time = self._frame_time, time
                self._inferences_before = self._inferences

    def is_planned(self, now: float) -> bool:
        """Return whether the frames of the instant `now` are answered: repeating them only produces another chunk."""
        return self._frame_time == now and self._is_planned()

    @property
    def in_step(self) -> bool:
        """Whether the latest awaited instant was answered, that is, whether the robot is being commanded."""
        return self._repeat == REPEAT

    def await_command(self, now: float) -> bool:
        """Wait for the commands of the instant `now`; return False when it must be published again."""
        with self._change:
            self._change.wait_for(lambda: self._interrupted() or self._is_answered(now), timeout=self._repeat)
            done = self._is_answered(now)
            self._repeat = REPEAT if done else FIRST_REPEAT
            return done and not self._interrupted()

    def await_policy(self) -> bool:
        """Wait for the policy's answer to the newest frames; return False when there is none yet.

        Frames that stay unanswered for `POLICY_WAIT` raise a warning and are not awaited again.
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
