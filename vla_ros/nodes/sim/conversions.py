"""Message conversions for the simulated robot only: trajectories in, camera calibration and verdicts out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from sensor_msgs.msg import CameraInfo
from trajectory_msgs.msg import JointTrajectory

from vla_ros.envs.env import TaskStatus
from vla_ros.envs.mujoco.controller import TrajectoryPoint
from vla_ros.envs.mujoco.simulator import Command
from vla_ros.msg import TaskStatus as TaskStatusMessage
from vla_ros.ros.messages.conversions import NANOSECONDS, seconds_to_stamp, stamp_to_seconds
from vla_ros.types import FloatArray


def duration_to_seconds(duration: Duration) -> float:
    """Convert a message's duration to s."""
    return float(duration.sec) + float(duration.nanosec) / NANOSECONDS


def message_to_command(
    message: JointTrajectory, time_of: Callable[[float], float] | None = None, now: float = 0.0
) -> Command:
    """Convert a trajectory for the controllers; a zero stamp means "on arrival", as in ros2_control.

    Args:
        message: Trajectory, stamped in simulation time or system time.
        time_of: Maps a time of the system clock, s, to simulation time, for stamps of that clock; None if there are
            none.
        now: System time, s. A stamp nearer to it than to simulation time is taken as system time.
    """
    points = tuple(
        TrajectoryPoint(
            positions=np.asarray(point.positions, dtype=np.float64),
            time_from_start=duration_to_seconds(point.time_from_start),
            velocities=_row(point.velocities),
            accelerations=_row(point.accelerations),
        )
        for point in message.points
    )
    stamp = message.header.stamp
    start = stamp_to_seconds(stamp) if (stamp.sec or stamp.nanosec) else None
    if start is not None and time_of is not None and abs(start - now) < abs(start - time_of(now)):
        start = time_of(start)
    return Command(tuple(message.joint_names), points, start)


def _row(values: Sequence[float]) -> FloatArray | None:
    return np.asarray(values, dtype=np.float64) if len(values) else None


def camera_info(matrix: FloatArray, height: int, width: int, stamp: float, frame_id: str) -> CameraInfo:
    """Return the calibration of an ideal pinhole camera: intrinsics (3, 3) px, no distortion; `stamp` in s."""
    message = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header.stamp = seconds_to_stamp(stamp)
    message.header.frame_id = frame_id
    message.k = matrix.ravel().tolist()
    message.r = np.eye(3).ravel().tolist()
    message.p = np.hstack([matrix, np.zeros((3, 1))]).ravel().tolist()
    return message


def task_status_to_message(status: TaskStatus, instruction: str, stamp: float, frame_id: str) -> TaskStatusMessage:
    """Convert a verdict of the success checker to a message; `stamp` in s."""
    message = TaskStatusMessage(
        instruction=instruction[:512],
        success=status.success,
        progress=status.progress,
        grasped_object=status.grasped_object[:64],
        detail=status.detail[:256],
    )
    message.header.stamp = seconds_to_stamp(stamp)
    message.header.frame_id = frame_id
    return message
