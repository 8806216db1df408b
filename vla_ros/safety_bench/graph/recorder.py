"""Record commands and safety statuses, with the timestamps of the safety layer itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from vla_ros.msg import SafetyStatus
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.messages.commands import commanded_point, commanded_rows
from vla_ros.ros.messages.conversions import NANOSECONDS, stamp_to_seconds
from vla_ros.ros.qos import qos
from vla_ros.safety_bench.referee.trajectory_controller import TimedTrajectory
from vla_ros.types import FloatArray

LATENCY = 3e-4
"""Latency from publishing a command to its arrival at a controller on the same machine, s."""

KEPT_WHOLE = 0.1
"""If the next command arrives within this time, s, the tail of a stop was not followed and need not be kept."""

KEPT_POINTS = 40


@dataclass(frozen=True)
class Said:
    """One status. `steady` is the start of its tick on the machine's steady clock, s; `executed` is (n,) rad."""

    steady: float
    state: int
    reason: str
    commands: int
    missed_ticks: int
    overruns: int
    executed: tuple[float, ...]


class Recorder:
    """Stores every arm command and every status since `begin`.

    `heard` holds the times at which this process received the commands, s on the steady clock. A controller's view of
    them is judged by the middleware's source timestamp instead. `lost` counts the commands that the middleware did not
    deliver here, by the sequence numbers of the publisher.
    """

    def __init__(self, node: Node, contract: RobotContract, period: float) -> None:
        """Subscribe on `node`, which another thread spins; the tick period is `period` s."""
        self._period = period
        self._joints = contract.joints.count
        self._names = contract.joints.names
        self.begin()
        self.measured_speed, self.measured_at = 0.0, 0.0
        topics = contract.controllers
        on_command: Any = self._on_command  # rclpy's types lack a callback with message info
        node.create_subscription(JointTrajectory, topics.arm_topic, on_command, QoSProfile(depth=1000))
        node.create_subscription(SafetyStatus, "/vla/safety_status", self._on_status, qos("status"))
        node.create_subscription(JointState, topics.joint_states_topic, self._on_state, qos("joint_states"))

    def begin(self) -> None:
        """Clear the recording."""
        self.lost = 0
        self.unheard: list[int] = []  # indices of the trajectories before which the middleware lost some
        self._cuts: list[int] = []  # likewise for the messages
        self._number: int | None = None
        self.heard: list[float] = []
        self.trajectories: list[TimedTrajectory] = []
        self._messages: list[JointTrajectory] = []
        self.positions: list[list[float]] = []
        self.velocities: list[list[float]] = []
        self.said: list[Said] = []

    def _on_command(self, message: JointTrajectory, info: Mapping[str, Any]) -> None:
        if len(message.points) == 1 and self.trajectories:
            return  # another publisher's: the safety node's commands have another form
        self._count(int(info["publication_sequence_number"]))
        point = commanded_point(message)
        if self._messages and time.monotonic() - self.heard[-1] < KEPT_WHOLE:  # tail of a stop that was not followed
            self._messages[-1].points = self._messages[-1].points[:KEPT_POINTS]
        self._messages.append(message)
        if len(message.points) > 1:
            if self.trajectories and time.monotonic() - self.heard[-1] < KEPT_WHOLE:
                self.trajectories[-1] = shortened(self.trajectories[-1])
            self.trajectories.append(timed_trajectory(message, 1e-9 * info["source_timestamp"] + LATENCY))
        self.heard.append(time.monotonic())
        self.positions.append(list(point.positions))
        self.velocities.append(list(point.velocities))

    def _count(self, number: int) -> None:
        """Count the commands lost before this one, by the publisher's sequence number, which rises by one each."""
        missing = 0 if self._number is None else number - self._number - 1
        self._number = number
        if missing > 0:  # otherwise the publisher has changed
            self.lost += missing
            self._cuts.append(len(self._messages))
            self.unheard.append(len(self.trajectories))

    def _on_status(self, message: SafetyStatus) -> None:
        executed = tuple(message.executed[-self._joints :]) if len(message.executed) else ()
        self.said.append(
            Said(
                message.steady_time,
                message.state,
                message.reason,
                message.commands,
                message.missed_ticks,
                message.overruns,
                executed,
            )
        )

    def _on_state(self, message: JointState) -> None:
        speeds = [abs(v) for name, v in zip(message.name, message.velocity, strict=False) if name in self._names]
        self.measured_speed, self.measured_at = max(speeds, default=0.0), time.monotonic()

    def speed(self) -> float:
        """Return the speed of the fastest joint in the newest command, rad/s."""
        return max(map(abs, self.velocities[-1])) if self.velocities and self.velocities[-1] else 0.0

    def first(self, since: float, *states: int) -> Said | None:
        """Return the first status with one of `states` whose tick began at or after `since`."""
        return next((one for one in list(self.said) if one.steady >= since and one.state in states), None)

    def commands(self) -> FloatArray:
        """Return all of `pieces` concatenated, (k, n) rad."""
        return np.concatenate([np.zeros((0, self._joints)), *self.pieces()])

    def pieces(self) -> list[FloatArray]:
        """Return the commands, (k, n) rad, split wherever commands were lost on the way here.

        Rows of the stop fill in for missing ticks.
        """
        messages = list(self._messages)
        bounds = [0, *(cut for cut in list(self._cuts) if 0 < cut < len(messages)), len(messages)]
        return [commanded_rows(messages[begin:end], self._period) for begin, end in pairwise(bounds) if end > begin]

    def index_of(self, said: Said) -> int:
        """Return the index of the command that a status refers to; -1 if it was not received.

        A resting arm is commanded to the same position repeatedly; then it is the first command received after that
        tick.
        """
        wanted = list(said.executed)
        fitting = (i for i, heard in enumerate(list(self.heard)) if heard >= said.steady)
        return next((i for i in fitting if self.positions[i] == wanted), -1) if wanted else -1


def timed_trajectory(message: JointTrajectory, arrival: float) -> TimedTrajectory:
    """Convert a command to the referee's format; `arrival` is on the clock of its stamp, s."""
    rows = [(point.positions, point.velocities, point.accelerations) for point in message.points]
    positions, velocities, accelerations = (np.array(one, dtype=np.float64) for one in zip(*rows, strict=True))
    since = [point.time_from_start for point in message.points]
    times = np.array([one.sec + one.nanosec / NANOSECONDS for one in since])
    return TimedTrajectory(arrival, stamp_to_seconds(message.header.stamp), times, positions, velocities, accelerations)


def shortened(one: TimedTrajectory) -> TimedTrajectory:
    """Truncate a trajectory to the points that can be followed before the next one arrives."""
    first = slice(0, KEPT_POINTS)
    if one.velocities is None or one.accelerations is None or len(one.times) <= KEPT_POINTS:
        return one
    return replace(
        one,
        times=one.times[first].copy(),
        positions=one.positions[first].copy(),
        velocities=one.velocities[first].copy(),
        accelerations=one.accelerations[first].copy(),
    )
