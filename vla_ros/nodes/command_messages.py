"""Commands of the safety layer as messages: trajectories with known stops, and single points where those cannot be."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from enum import Enum

import numpy as np
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.nodes.conversions import NANOSECONDS, seconds_to_stamp
from vla_ros.safety.clock_offset import ClockOffset
from vla_ros.safety.command_trajectory import CommandTrajectory, command_trajectory
from vla_ros.safety.joint_motion import HISTORY, JointStep
from vla_ros.types import FloatArray

COMMAND_HORIZON = 1.5
"""Ticks that a controller gets to reach a single point: the next one comes before it rests, also a bit late."""


class CommandClock(Enum):
    """What the stamps of commands are times of.

    SYSTEM: the system clock, which the computer of the controllers is synchronized with (PTP, NTP) when it is another.
    ARRIVAL: none, a command counts from its arrival. For a simulator with a time of its own: limits hold then for
        commands that arrive at equal distances only.
    LOCKSTEP: the time of a simulator that waits for every command.
    """

    SYSTEM = "system"
    ARRIVAL = "arrival"
    LOCKSTEP = "lockstep"


class CommandMessages:
    """Makes the messages of one arm."""

    def __init__(self, names: tuple[str, ...], period: float, clock: CommandClock) -> None:
        """Name the joints `names` and count with ticks `period` s apart."""
        self._names, self._period, self.clock = names, period, clock
        self.offset = ClockOffset()

    def trajectory(self, step: JointStep, tick: float, published: float) -> JointTrajectory:
        """Return the message of a step of the tick at `tick`, s, that is published at `published`, s, same clock."""
        if self.clock is CommandClock.SYSTEM:
            return self._on_grid(command_trajectory(step, self._period, published))
        return self.point(self._names, step.positions.tolist(), step.velocities.tolist(), tick)

    def point(
        self, names: tuple[str, ...], positions: list[float], velocities: list[float], tick: float
    ) -> JointTrajectory:
        """Return a single point. A stamp of zero means on arrival; in lock step it is the tick's own."""
        message = JointTrajectory(joint_names=list(names))
        lockstep = self.clock is CommandClock.LOCKSTEP
        if lockstep:
            message.header.stamp = seconds_to_stamp(tick)
        point = JointTrajectoryPoint(positions=positions, velocities=velocities)
        point.time_from_start.nanosec = round((1.0 if lockstep else COMMAND_HORIZON) * self._period * NANOSECONDS)
        message.points.append(point)
        return message

    def _on_grid(self, sent: CommandTrajectory) -> JointTrajectory:
        message = JointTrajectory(joint_names=list(self._names))
        message.header.stamp.sec, message.header.stamp.nanosec = self.offset.stamp(sent.stamp)
        points = []
        rows = zip(sent.times.tolist(), sent.positions, sent.velocities, sent.accelerations, strict=True)
        for time, positions, velocities, accelerations in rows:
            point = JointTrajectoryPoint()  # arrays of doubles are taken as they are, lists are looked at one by one
            point.positions = array("d", positions.tobytes())
            point.velocities = array("d", velocities.tobytes())
            point.accelerations = array("d", accelerations.tobytes())
            since = point.time_from_start
            since.sec, since.nanosec = divmod(round(time * NANOSECONDS), NANOSECONDS)
            points.append(point)
        message.points = points
        return message


def commanded_point(message: JointTrajectory) -> JointTrajectoryPoint:
    """Return the point of the step that a command of the safety node was sent for: the rows before it come first."""
    return message.points[HISTORY if len(message.points) > 1 else 0]


def part_of(message: JointTrajectory, joints: slice) -> JointTrajectory:
    """Return the same trajectory of some of its joints, as the controller of one arm among several gets it."""
    points = [
        JointTrajectoryPoint(
            positions=point.positions[joints],
            velocities=point.velocities[joints],
            accelerations=point.accelerations[joints],
            time_from_start=point.time_from_start,
        )
        for point in message.points
    ]
    return JointTrajectory(header=message.header, joint_names=message.joint_names[joints], points=points)


def due(message: JointTrajectory) -> float:
    """Return when the step of a command is due, s on the clock of its stamp."""
    stamp, since = message.header.stamp, commanded_point(message).time_from_start
    return float((stamp.sec + since.sec) + (stamp.nanosec + since.nanosec) / NANOSECONDS)


def commanded_rows(messages: Sequence[JointTrajectory], period: float) -> FloatArray:
    """Return the positions (k, n) rad that commands lead through, a period apart.

    Where a command is due more than a period after the one before, it says itself what was due in between; where that
    is not enough there are the rows of the stop of the one before.
    """
    rows: list[Sequence[float]] = []
    for before, message in zip([None, *messages], messages, strict=False):
        if before is not None and len(before.points) > 1:
            behind = before.points[HISTORY + 1 :]
            missed = max(round((due(message) - due(before)) / period) - 1, 0)
            known = min(missed, HISTORY)
            rows += [behind[min(i, len(behind) - 1)].positions for i in range(min(missed - known, len(behind)))]
            rows += [point.positions for point in message.points[HISTORY - known : HISTORY]]
        rows.append(commanded_point(message).positions)
    return np.array(rows, dtype=np.float64)
