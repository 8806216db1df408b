"""How large an arm and its world are, and how quick it is, so that one table of faults suits every arm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics

WIDTH, LENGTH, SPEED, ACCELERATION = 0.8, 1.09, 0.5, 3.0
"""Width of the workspace and length of the arm, m, and speed and acceleration of the tool, m/s and m/s^2, that the
table is written for."""


@dataclass(frozen=True)
class Pace:
    """Factors on the distances and on the times of the table.

    Attributes:
        scale: Of distances: the width of this arm's workspace over `WIDTH`, or its own length over `LENGTH`.
        stretch: Of times, at least 1: what this arm needs for a distance of its own scale.
    """

    scale: float
    stretch: float

    def ticks(self, count: int) -> int:
        """Return how many ticks this arm gets for what the table gives `count`."""
        return math.ceil(count * self.stretch)


def pace_of(contract: RobotContract) -> Pace:
    """Return the factors of an arm in its workspace."""
    box = contract.cartesian
    return _pace(contract, float(box.workspace_upper[1] - box.workspace_lower[1]) / WIDTH)


def arm_pace_of(contract: RobotContract) -> Pace:
    """Return the factors of an arm for what its workspace says nothing about: where it can reach, and where it is."""
    return _pace(contract, Kinematics(contract).length / LENGTH)


def _pace(contract: RobotContract, scale: float) -> Pace:
    """Return the factors of an arm whose distances are `scale` times those of the table.

    At home, with the tool sideways at 1 m/s and not turning, the joints turn at r = J^+ (0, 1, 0, 0, 0, 0) rad/s. So
    the tool's speed is at most min(v_i / |r_i|), its acceleration min(a_i / |r_i|), neither beyond its own limit.
    A way s from rest to rest takes s / v + v / a: longer by at most the larger of the two ratios.
    """
    box = contract.cartesian
    sideways = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    rates = np.abs(np.linalg.pinv(Kinematics(contract).jacobian(contract.joints.home)) @ sideways)
    turning = rates > 1e-6
    joints = contract.joints
    speed = min(box.linear_velocity, float((joints.velocity[turning] / rates[turning]).min()))
    acceleration = min(box.linear_acceleration, float((joints.acceleration[turning] / rates[turning]).min()))
    stretch = max(1.0, scale * SPEED / speed, speed * ACCELERATION / (acceleration * SPEED))
    return Pace(scale, stretch)
