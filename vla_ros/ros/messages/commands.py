"""Converts the safety layer's commands to messages: trajectories that end in a stop, or single points."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from enum import Enum

import numpy as np
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.ros.messages.conversions import NANOSECONDS, seconds_to_stamp
from vla_ros.safety.motion.command_trajectory import CommandTrajectory, command_trajectory
from vla_ros.safety.motion.joint_motion import HISTORY, JointStep
from vla_ros.safety.watch.clock_offset import ClockOffset
from vla_ros.types import FloatArray

COMMAND_HORIZON = 1.5
"""Time for a controller to reach a single point, ticks: the next one, even slightly late, arrives before it rests."""


class CommandClock(Enum):
    """Clock of the commands' stamps.

    SYSTEM: system clock; a separate controller computer must be synchronized with it (PTP, NTP).
    ARRIVAL: no clock, a command counts from its arrival. For a simulator with its own time: limits then hold only for
        commands that arrive equally spaced.
    LOCKSTEP: time of a simulator that waits for every command.
    """

    SYSTEM = "system"
    ARRIVAL = "arrival"
    LOCKSTEP = "lockstep"


class CommandMessages:
    """Creates command messages; one trajectory contains the joints of all arms."""

    def __init__(self, names: tuple[str, ...], period: float, clock: CommandClock) -> None:
        """Create messages for the joints `names`, with ticks `period` s apart."""
        self._names, self._period, self.clock = names, period, clock
        self.offset = ClockOffset()
        self._stamp = -np.inf  # of the last trajectory, s on the tick clock

    def trajectory(self, step: JointStep, tick: float, published: float) -> JointTrajectory:
        """Return the message of a step; its tick and publication times `tick` and `published`, s, share one clock."""
        if self.clock is CommandClock.SYSTEM:
            sent = command_trajectory(step, self._period, published, self._stamp)
            self._stamp = sent.stamp
            return self._on_grid(sent)
        return self.point(self._names, step.positions.tolist(), step.velocities.tolist(), tick)

    def point(
        self, names: tuple[str, ...], positions: list[float], velocities: list[float], tick: float
    ) -> JointTrajectory:
        """Return a single-point message, stamped zero (on arrival), or with the tick's time in lockstep."""
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
            point = JointTrajectoryPoint()  # arrays of doubles are stored as is, lists are checked element by element
            point.positions = array("d", positions.tobytes())
            point.velocities = array("d", velocities.tobytes())
            point.accelerations = array("d", accelerations.tobytes())
            since = point.time_from_start
            since.sec, since.nanosec = divmod(round(time * NANOSECONDS), NANOSECONDS)
            points.append(point)
        message.points = points
        return message


def commanded_point(message: JointTrajectory) -> JointTrajectoryPoint:
    """Return the point of a safety node command that is its step; the rows before it are history."""
    return message.points[HISTORY if len(message.points) > 1 else 0]


def part_of(message: JointTrajectory, joints: slice) -> JointTrajectory:
    """Return the trajectory restricted to some joints, for the controller of one of several arms."""
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
    """Return the time at which a command's step is due, s on the clock of its stamp."""
    stamp, since = message.header.stamp, commanded_point(message).time_from_start
    return float((stamp.sec + since.sec) + (stamp.nanosec + since.nanosec) / NANOSECONDS)


def commanded_rows(messages: Sequence[JointTrajectory], period: float) -> FloatArray:
    """Return the positions (k, n) rad along commands, one period apart.

    Where a command is due more than one period after its predecessor, the rows in between are its own history, and
    before that the rows of the predecessor's stop.
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
