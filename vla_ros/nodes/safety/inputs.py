"""Inputs of the safety node: the newest message of each kind, and the recent postures of the arm.

Joint states are parsed on arrival: of a message of any size only a few valid numbers are kept, or its error.
"""

from __future__ import annotations

import threading
import time

from sensor_msgs.msg import JointState

from vla_ros.msg import ActionChunk, Instruction
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.joint_states.reader import JointStateReader
from vla_ros.robot.joint_states.report import JointReading, JointReportError
from vla_ros.ros.messages.conversions import message_to_joint_report, stamp_to_seconds
from vla_ros.safety.measurement.history import History
from vla_ros.types import FloatArray

HISTORY = 2000
"""Number of postures kept to look up the start of a chunk: 2 s at 1 kHz; n numbers each."""


class Inputs:
    """The newest message of each kind. Callbacks offer, the control thread takes; no queue is unbounded."""

    def __init__(self, contract: RobotContract) -> None:
        """Begin empty; joint states are those of the contract's robot."""
        self._contract, self._reader = contract, JointStateReader(contract)
        self._lock = threading.Lock()
        self._joint_state: tuple[JointReading | JointReportError, float] | None = None
        self._history: History[FloatArray] = History(HISTORY)
        self._chunk: tuple[ActionChunk, bool] | None = None
        self._stop: Instruction | None = None
        self._task: Instruction | None = None

    def restart(self) -> None:
        """Discard earlier joint states, so that none is merged with a later one."""
        with self._lock:
            self._reader = JointStateReader(self._contract)

    def sources(self, message: JointState) -> list[str]:
        """Return the sources whose joints a joint state contains; none if it is of another machine."""
        return self._reader.sources(message.name)

    def offer_joint_state(self, message: JointState, received: float | None = None) -> None:
        """Store the newest joint state, received at `received` (s, steady clock; None: now)."""
        came = time.monotonic() if received is None else received
        with self._lock:
            try:
                reading = self._reader.read(message_to_joint_report(message), came)
            except JointReportError as error:
                self._joint_state = error, came
                return
            if reading is None:
                return  # of another machine, or not complete yet
            self._joint_state = reading, reading.received
            self._history.add(reading.stamp, reading.positions)

    def offer_chunk(self, message: ActionChunk, foreign: bool) -> None:
        """Store the newest chunk; `foreign` means that its publisher may be unauthorized."""
        with self._lock:
            self._chunk = (message, foreign)

    def offer_instruction(self, message: Instruction) -> None:
        """Store an instruction: the newest stop and the newest task, so that tasks never push out a stop."""
        with self._lock:
            if message.kind == Instruction.STOP:
                self._stop, self._task = message, None  # a task before the stop must not resume
            else:
                self._task = message

    def take_joint_state(self) -> tuple[JointReading | JointReportError, float] | None:
        """Return the newest joint state or its error, once, and the receive time of its oldest part.

        The time is on the steady clock, s.
        """
        with self._lock:
            taken, self._joint_state = self._joint_state, None
            return taken

    def take_instruction(self) -> Instruction | None:
        """Return a stored instruction, a stop before a task; the gate determines which is older."""
        with self._lock:
            if self._stop is not None:
                stop, self._stop = self._stop, None
                return stop
            task, self._task = self._task, None
            return task

    def take_chunk(self, until: float) -> tuple[ActionChunk, bool] | None:
        """Return the newest chunk, once, unless its observation is newer than `until`, s."""
        with self._lock:
            if self._chunk is None or stamp_to_seconds(self._chunk[0].observation_stamp) > until:
                return None
            chunk, self._chunk = self._chunk, None
            return chunk

    def posture_at(self, stamp: float, tolerance: float) -> FloatArray | None:
        """Return the joint positions (n,) rad measured nearest to `stamp`, s, or None."""
        with self._lock:
            return self._history.nearest(stamp, tolerance)
