"""What has come in for the safety node and has not been looked at yet: the newest message of each kind."""

from __future__ import annotations

import threading
import time

from sensor_msgs.msg import JointState

from vla_ros.msg import ActionChunk, Instruction
from vla_ros.nodes.conversions import stamp_to_seconds
from vla_ros.safety.history import History

HISTORY = 2000
"""Joint states that are kept to look up where a chunk starts from: 2 s at 1 kHz."""


class Inputs:
    """The newest message of each kind. Callbacks offer, the control thread takes; nothing queues without bound."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._joint_state: tuple[JointState, float] | None = None
        self._history: History[JointState] = History(HISTORY)
        self._chunk: tuple[ActionChunk, bool] | None = None
        self._stop: Instruction | None = None
        self._task: Instruction | None = None

    def offer_joint_state(self, message: JointState, received: float | None = None) -> None:
        """Leave the newest joint state; `received` is when it came, s, steady clock, None for now."""
        with self._lock:
            self._joint_state = message, time.monotonic() if received is None else received
            self._history.add(stamp_to_seconds(message.header.stamp), message)

    def offer_chunk(self, message: ActionChunk, foreign: bool) -> None:
        """Leave the newest chunk, and whether its sender is in doubt."""
        with self._lock:
            self._chunk = (message, foreign)

    def offer_instruction(self, message: Instruction) -> None:
        """Leave an instruction: the newest stop and the newest task, so that no number of tasks pushes a stop out."""
        with self._lock:
            if message.kind == Instruction.STOP:
                self._stop = message
            else:
                self._task = message

    def take_joint_state(self) -> tuple[JointState, float] | None:
        """Return the newest joint state once, and when it came, steady clock, s."""
        with self._lock:
            taken, self._joint_state = self._joint_state, None
            return taken

    def take_instruction(self) -> Instruction | None:
        """Return an instruction that is left, a stop before a task; which of them is older, the gate finds out."""
        with self._lock:
            if self._stop is not None:
                stop, self._stop = self._stop, None
                return stop
            task, self._task = self._task, None
            return task

    def take_chunk(self, until: float) -> tuple[ActionChunk, bool] | None:
        """Return the newest chunk once, if its observation is not younger than `until`, s."""
        with self._lock:
            if self._chunk is None or stamp_to_seconds(self._chunk[0].observation_stamp) > until:
                return None
            chunk, self._chunk = self._chunk, None
            return chunk

    def joint_state_at(self, stamp: float, tolerance: float) -> JointState | None:
        """Return the joint state nearest to `stamp`, s, or None."""
        with self._lock:
            return self._history.nearest(stamp, tolerance)
