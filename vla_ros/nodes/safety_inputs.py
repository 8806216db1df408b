"""What has come in for the safety node and has not been looked at yet: the newest message of each kind."""

from __future__ import annotations

import threading
from collections import deque

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
        self._joint_state: JointState | None = None
        self._history: History[JointState] = History(HISTORY)
        self._chunk: tuple[ActionChunk, bool] | None = None
        self._instructions: deque[Instruction] = deque(maxlen=2)

    def offer_joint_state(self, message: JointState) -> None:
        """Leave the newest joint state."""
        with self._lock:
            self._joint_state = message
            self._history.add(stamp_to_seconds(message.header.stamp), message)

    def offer_chunk(self, message: ActionChunk, foreign: bool) -> None:
        """Leave the newest chunk, and whether its sender is in doubt."""
        with self._lock:
            self._chunk = (message, foreign)

    def offer_instruction(self, message: Instruction) -> None:
        """Leave an instruction; a stop is not pushed out by the one task behind it."""
        with self._lock:
            self._instructions.append(message)

    def take_joint_state(self) -> JointState | None:
        """Return the newest joint state once."""
        with self._lock:
            message, self._joint_state = self._joint_state, None
            return message

    def take_instruction(self) -> Instruction | None:
        """Return the oldest instruction that is left."""
        with self._lock:
            return self._instructions.popleft() if self._instructions else None

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
