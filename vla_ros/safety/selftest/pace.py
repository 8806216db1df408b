"""Scale of an arm and its workspace, and its speed, so that one fault table suits every arm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics

WIDTH, LENGTH, SPEED, ACCELERATION = 0.8, 1.09, 0.5, 3.0
"""Reference arm of the table: workspace width and arm length, m, tool speed, m/s, and acceleration, m/s^2."""


@dataclass(frozen=True)
class Pace:
    """Factors for the distances and times of the table.

    Attributes:
        scale: Factor for distances: this arm's workspace width over `WIDTH`, or its length over `LENGTH`.
        stretch: Factor for times, at least 1: what this arm needs for a distance of its own scale.
    """

    scale: float
    stretch: float

    def ticks(self, count: int) -> int:
        """Return this arm's ticks for `count` ticks of the table."""
        return math.ceil(count * self.stretch)


def pace_of(contract: RobotContract) -> Pace:
    """Return the factors of an arm, scaled by its workspace."""
    box = contract.cartesian
    return _pace(contract, float(box.workspace_upper[1] - box.workspace_lower[1]) / WIDTH)


def arm_pace_of(contract: RobotContract) -> Pace:
    """Return the factors of an arm, scaled by its length, for faults that do not depend on the workspace."""
    return _pace(contract, Kinematics(contract).length / LENGTH)


def _pace(contract: RobotContract, scale: float) -> Pace:
    """Return the factors of an arm whose distances are `scale` times those of the table.

    At home, for a sideways tool velocity of 1 m/s without rotation, the joint velocities are r = J^+ (0, 1, 0, 0, 0, 0)
    rad/s. So the tool's speed is at most min(v_i / |r_i|), its acceleration min(a_i / |r_i|), neither beyond its own
    limit. A displacement s from rest to rest takes s / v + v / a: longer by at most the larger of the two ratios.
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
