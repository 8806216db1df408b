"""What was commanded and what the safety layer said, with the times that the layer itself wrote down."""

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

from vla_ros.evaluation.trajectory_controller import TimedTrajectory
from vla_ros.msg import SafetyStatus
from vla_ros.nodes.command_messages import commanded_point, commanded_rows
from vla_ros.nodes.conversions import NANOSECONDS, stamp_to_seconds
from vla_ros.nodes.qos import qos
from vla_ros.robot.contract import RobotContract
from vla_ros.types import FloatArray

LATENCY = 3e-4
"""From the publication of a command to its arrival at a controller on the same machine, s."""

KEPT_WHOLE = 0.1
"""When the next command comes within this time, s, the end of a stop was not followed and need not be kept."""

KEPT_POINTS = 40


@dataclass(frozen=True)
class Said:
    """One status: `steady` is the beginning of its tick on the machine's steady clock, s; `executed` (n,) rad."""

    steady: float
    state: int
    reason: str
    commands: int
    missed_ticks: int
    overruns: int
    executed: tuple[float, ...]


class Recorder:
    """Keeps every command of the arm and every status since `begin`.

    `heard` is when this process had a command, s, steady clock; what a controller made of it is judged by when it was
    sent, by the middleware's own stamp. `lost` counts the commands that the middleware did not bring here, by the
    numbers that it gives to those of one publisher.
    """

    def __init__(self, node: Node, contract: RobotContract, period: float) -> None:
        """Listen on `node`, which another thread spins; ticks are `period` s apart."""
        self._period = period
        self._joints = contract.joints.count
        self._names = contract.joints.names
        self.begin()
        self.measured_speed, self.measured_at = 0.0, 0.0
        topics = contract.controllers
        on_command: Any = self._on_command  # rclpy declares no callback that takes the message info
        node.create_subscription(JointTrajectory, topics.arm_topic, on_command, QoSProfile(depth=1000))
        node.create_subscription(SafetyStatus, "/vla/safety_status", self._on_status, qos("status"))
        node.create_subscription(JointState, topics.joint_states_topic, self._on_state, qos("joint_states"))

    def begin(self) -> None:
        """Forget what was heard."""
        self.lost = 0
        self.unheard: list[int] = []  # indices of the trajectories before which the middleware lost some
        self._cuts: list[int] = []  # likewise of the messages
        self._number: int | None = None
        self.heard: list[float] = []
        self.trajectories: list[TimedTrajectory] = []
        self._messages: list[JointTrajectory] = []
        self.positions: list[list[float]] = []
        self.velocities: list[list[float]] = []
        self.said: list[Said] = []

    def _on_command(self, message: JointTrajectory, info: Mapping[str, Any]) -> None:
        if len(message.points) == 1 and self.trajectories:
            return  # of another form than the safety node's: another publisher's
        self._count(int(info["publication_sequence_number"]))
        point = commanded_point(message)
        if self._messages and time.monotonic() - self.heard[-1] < KEPT_WHOLE:  # of a stop that was not followed
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
        """Note how many commands were lost before the one with this number of its publisher, which rises by one."""
        missing = 0 if self._number is None else number - self._number - 1
        self._number = number
        if missing > 0:  # else the publisher is another one than before
            self.lost += missing
            self._cuts.append(len(self._messages))
            self.unheard.append(len(self.trajectories))

    def _on_status(self, message: SafetyStatus) -> None:
        executed = tuple(message.executed[-self._joints :]) if len(message.executed) else ()
        self.said.append(
            Said(message.steady_time, message.state, message.reason, message.commands, message.missed_ticks,
                 message.overruns, executed)
        )  # fmt: skip

    def _on_state(self, message: JointState) -> None:
        speeds = [abs(v) for name, v in zip(message.name, message.velocity, strict=False) if name in self._names]
        self.measured_speed, self.measured_at = max(speeds, default=0.0), time.monotonic()

    def speed(self) -> float:
        """Return the speed of the fastest joint in the newest command, rad/s."""
        return max(map(abs, self.velocities[-1])) if self.velocities and self.velocities[-1] else 0.0

    def first(self, since: float, *states: int) -> Said | None:
        """Return the first status of a tick that began at `since` or later and had one of `states`."""
        return next((one for one in list(self.said) if one.steady >= since and one.state in states), None)

    def commands(self) -> FloatArray:
        """Return all of `pieces` as one, (k, n) rad."""
        return np.concatenate([np.zeros((0, self._joints)), *self.pieces()])

    def pieces(self) -> list[FloatArray]:
        """Return what was commanded, (k, n) rad, in pieces between which commands were lost on the way to here.

        Rows of the stop stand in the place of ticks that did not come.
        """
        messages = list(self._messages)
        bounds = [0, *(cut for cut in list(self._cuts) if 0 < cut < len(messages)), len(messages)]
        return [commanded_rows(messages[begin:end], self._period) for begin, end in pairwise(bounds) if end > begin]

    def index_of(self, said: Said) -> int:
        """Return which command is the one that a status speaks of, -1 when it was not heard.

        A resting arm is commanded to the same place again and again; then it is the first that came after that tick.
        """
        wanted = list(said.executed)
        fitting = (i for i, heard in enumerate(list(self.heard)) if heard >= said.steady)
        return next((i for i in fitting if self.positions[i] == wanted), -1) if wanted else -1


def timed_trajectory(message: JointTrajectory, arrival: float) -> TimedTrajectory:
    """Return a command as the referee judges it; `arrival` is of the clock of its stamp, s."""
    rows = [(point.positions, point.velocities, point.accelerations) for point in message.points]
    positions, velocities, accelerations = (np.array(one, dtype=np.float64) for one in zip(*rows, strict=True))
    since = [point.time_from_start for point in message.points]
    times = np.array([one.sec + one.nanosec / NANOSECONDS for one in since])
    return TimedTrajectory(arrival, stamp_to_seconds(message.header.stamp), times, positions, velocities, accelerations)


def shortened(one: TimedTrajectory) -> TimedTrajectory:
    """Return a trajectory with no more points than are followed until the next one comes."""
    first = slice(0, KEPT_POINTS)
    if one.velocities is None or one.accelerations is None or len(one.times) <= KEPT_POINTS:
        return one
    return replace(
        one, times=one.times[first].copy(), positions=one.positions[first].copy(),
        velocities=one.velocities[first].copy(), accelerations=one.accelerations[first].copy(),
    )  # fmt: skip
