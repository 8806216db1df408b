"""Faults of where a plan leads: out of the workspace, into the table, an obstacle or the arm, out of reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.faults.trial import Fault, Play, Trial, corrected
from vla_ros.safety.obstacles import Obstacle, Shape
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray, frozen_array

OUTSIDE = frozenset({Reason.WORKSPACE, Reason.OBSTACLE, Reason.SELF_COLLISION, Reason.JOINT_POSITION})
"""The most serious of what is in the way is named: on the way out of the box that may be the arm or the table."""


FINGERS_BEYOND_TOOL = 0.010
"""How far the finger tips reach beyond the tool frame of the shipped robot, m."""

POSTS = {
    Shape.BOX: (0.1, 0.1, 0.3), Shape.SPHERE: (0.08,), Shape.CYLINDER: (0.05, 0.3), Shape.CAPSULE: (0.05, 0.2),
}  # fmt: skip
"""Sizes of what stands in the way, m."""

Arrange = Callable[[SafetyParameters, RobotContract], SafetyParameters]


def towards(offset: tuple[float, float, float], ticks: int = 60) -> Play:
    """Plans at a reachable speed to a place `offset` m from where the tool is."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        goal = shadow.pose().position + np.asarray(offset)

        def rows(_: int) -> FloatArray:
            way = goal - shadow.pose().position
            step = way * min(1.0, 0.04 / max(float(np.linalg.norm(way)), 1e-9))
            count = np.arange(1, shadow.contract.action.horizon + 1)[:, None]
            short = np.linalg.norm(count * step, axis=1)[:, None] < np.linalg.norm(way)
            places: FloatArray = np.where(short, shadow.pose().position + count * step, goal)
            return places

        trial.follow(rows, ticks)

    return play


def _near_face(axis: int, upper: bool) -> Callable[[RobotContract], RobotContract]:
    """Move one face of the box to 5 cm before the tool at home, so that the way to it is short."""

    def adapt(contract: RobotContract) -> RobotContract:
        from vla_ros.robot.kinematics import Kinematics

        box, tool = contract.cartesian, Kinematics(contract).forward(contract.joints.home).position
        lower, higher = box.workspace_lower.copy(), box.workspace_upper.copy()
        if upper:
            higher[axis] = tool[axis] + (0.15 if axis == 1 else 0.05)
        else:
            lower[axis] = tool[axis] - 0.05
        return replace(contract, cartesian=replace(box, workspace_lower=lower, workspace_upper=higher))

    return adapt


def wide(contract: RobotContract) -> RobotContract:
    """A box that forbids nothing: other checks have to."""
    everywhere = np.full(3, 3.0)
    cartesian = replace(contract.cartesian, workspace_lower=-everywhere, workspace_upper=everywhere)
    return replace(contract, cartesian=cartesian)


def _in_the_way(shape: Shape, dimensions: tuple[float, ...], aside: float) -> Arrange:
    """Put a shape `aside` m to the left of where the tool is at home, at its height."""

    def arrange(parameters: SafetyParameters, contract: RobotContract) -> SafetyParameters:
        tool = Kinematics(contract).forward(contract.joints.home).position
        place = frozen_array(tool + np.array([0.0, aside, 0.0]))
        obstacle = Obstacle("post", shape, frozen_array(dimensions), place, frozen_array(np.zeros(3)))
        return replace(parameters, obstacles=(*parameters.obstacles, obstacle))

    return arrange


def _table(parameters: SafetyParameters, contract: RobotContract) -> SafetyParameters:
    """Put a table where the contract's own workspace ends, whatever else is declared."""
    if any(obstacle.position[2] < 0.0 for obstacle in parameters.obstacles):
        return parameters
    table = Obstacle.box("table", np.array([0.9, 1.1, 0.04]), np.array([0.4, 0.0, -0.02]))
    return replace(parameters, obstacles=(*parameters.obstacles, table))


def _against_and_back(trial: Trial) -> None:
    """Against the obstacle for a while; then the way back must be open at full speed."""
    towards((0.0, 0.5, 0.0), 120)(trial)
    near = float(trial.shadow.pose().position[1])
    towards((0.0, -0.2, 0.0), 60)(trial)
    back = near - float(trial.shadow.pose().position[1])
    trial.require(back > 0.1, f"the retreat is not open: {back:.3f} m in 0.6 s")
    trial.require(trial.shadow.clearance() >= 0.0, "an obstacle was touched")


def _touching(trial: Trial) -> None:
    """Armed too near to the table: up is open, down is not."""
    shadow = trial.shadow
    trial.answer(shadow.start())
    towards((0.0, 0.0, -0.1), 40)(trial)
    low = float(shadow.pose().position[2])
    towards((0.0, 0.0, 0.1), 60)(trial)
    up = float(shadow.pose().position[2]) - low
    trial.require(up > 0.05, f"the way out of the collision is not open: {up:.3f} m in 0.6 s")


def _low(contract: RobotContract) -> FloatArray:
    """Return joint positions (n,) with the finger tips 1 mm over the table's top at z = 0: nearer than allowed."""
    kinematics, q = Kinematics(contract), np.array(contract.joints.home)
    start = kinematics.placement(q)
    goal = start.translation.copy()
    goal[2] = FINGERS_BEYOND_TOOL + 1e-3
    for _ in range(50):
        error = np.concatenate([goal - kinematics.placement(q).translation, np.zeros(3)])
        jacobian = kinematics.jacobian(q)
        q = q + jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-6 * np.eye(6), error)
    return q


def table() -> list[Fault]:
    """Return the faults of this module."""
    outside = OUTSIDE
    ways = (
        ("in front of", 0, True, (0.5, 0.0, 0.0)), ("behind", 0, False, (-0.5, 0.0, 0.0)),
        ("left of", 1, True, (0.0, 0.6, 0.0)), ("right of", 1, False, (0.0, -0.6, 0.0)),
        ("above", 2, True, (0.0, 0.0, 0.5)), ("below", 2, False, (0.0, 0.0, -0.5)),
    )  # fmt: skip
    faces = [
        corrected(f"the target is {name} the workspace", outside, towards(way, 60), adapt=_near_face(axis, upper))
        for name, axis, upper, way in ways
    ]
    below = frozenset({Reason.OBSTACLE, Reason.RESULT_INVALID})
    itself = frozenset({Reason.SELF_COLLISION})
    stretched = frozenset({Reason.SINGULARITY, Reason.JOINT_POSITION, Reason.RESULT_INVALID, Reason.OBSTACLE})
    return [
        *faces,
        corrected("the target is under the table", below, towards((0.0, 0.0, -0.6), 130), adapt=wide, arrange=_table),
        corrected(
            "the arm starts too near to the table",
            below,
            _touching,
            moving=False,
            posture=_low,
            adapt=wide,
            arrange=_table,
        ),
        *(
            corrected(
                f"a {shape.value} is in the way, and the arm comes back",
                below,
                _against_and_back,
                arrange=_in_the_way(shape, dimensions, 0.3),
            )
            for shape, dimensions in POSTS.items()
        ),
        corrected("the target is inside the arm", itself, towards((-0.6, 0.05, 0.4), 220), adapt=wide),
        corrected("the target is out of reach", stretched, towards((0.9, 0.0, 0.3), 200), adapt=wide),
        corrected("the arm is stretched, and comes back", stretched, _stretch_and_back, adapt=wide),
    ]


def _stretch_and_back(trial: Trial) -> None:
    towards((0.9, 0.0, 0.3), 180)(trial)
    far = float(trial.shadow.pose().position[0])
    towards((-0.3, 0.0, 0.0), 80)(trial)
    back = far - float(trial.shadow.pose().position[0])
    trial.require(back > 0.05, f"the way out of the singularity is not open: {back:.3f} m in 0.8 s")
