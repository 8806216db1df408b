"""What was commanded and what the safety layer said, with the times that the layer itself wrote down."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    sent, by the middleware's own stamp.
    """

    def __init__(self, node: Node, contract: RobotContract, period: float) -> None:
        """Listen on `node`, which another thread spins; ticks are `period` s apart."""
        self._period = period
        self._joints = contract.joints.count
        self._names = contract.joints.names
        self.begin()
        self.measured_speed, self.measured_at = 0.0, 0.0
        topics = contract.controllers
        node.create_subscription(JointTrajectory, topics.arm_topic, self._on_command, QoSProfile(depth=1000))
        node.create_subscription(SafetyStatus, "/vla/safety_status", self._on_status, qos("status"))
        node.create_subscription(JointState, topics.joint_states_topic, self._on_state, qos("joint_states"))

    def begin(self) -> None:
        """Forget what was heard."""
        self.heard: list[float] = []
        self.trajectories: list[TimedTrajectory] = []
        self._messages: list[JointTrajectory] = []
        self.positions: list[list[float]] = []
        self.velocities: list[list[float]] = []
        self.said: list[Said] = []

    def _on_command(self, message: JointTrajectory, info: Mapping[str, Any]) -> None:
        if len(message.points) == 1 and self.trajectories:
            return  # of another form than the safety node's: another publisher's
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
        """Return what was commanded, (k, n) rad, with the rows of the stop in the place of ticks that did not come."""
        messages = list(self._messages)
        return commanded_rows(messages, self._period) if messages else np.zeros((0, self._joints))

    def index_of(self, said: Said) -> int:
        """Return which command is the one that a status speaks of, -1 when it was not heard.

        A resting arm is commanded to the same place again and again; then it is the first that came after that tick.
        """
        wanted = list(said.executed)
        fitting = (i for i, heard in enumerate(list(self.heard)) if heard >= said.steady)
        return next((i for i in fitting if self.positions[i] == wanted), -1) if wanted else -1

    def lost(self) -> int:
        """Return how many commands were not heard between the first and the last status that speak of a moving arm."""
        places = Counter(map(tuple, list(self.positions)))
        said = [one for one in list(self.said) if places[one.executed] == 1]
        if len(said) < 2:
            return 0
        first, last = self.index_of(said[0]), self.index_of(said[-1])
        return max((said[-1].commands - said[0].commands) - (last - first), 0)


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
