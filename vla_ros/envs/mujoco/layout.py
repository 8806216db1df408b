"""Places the table and the object area of a workcell within reach of the robot of any contract.

Scenes are drawn for the reference workspace, that of the shipped arms of 0.85 m reach; for another workspace they are
shifted and scaled with it. Objects keep their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import SimulationError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

Range = tuple[float, float]

REFERENCE = ((0.25, 0.75), (-0.40, 0.40))
"""Reference workspace for which object areas are defined: (x range, y range) in the base frame, m."""

WORKSPACE_CLEARANCE = 0.05
"""Maximum height of a workspace's floor at which the table stands at z = 0 of the base frame, m."""

CLEARANCE_BELOW = 0.005
"""Distance of any other table below the workspace's floor, m."""

TABLE_MARGINS = ((0.30, 0.10), (0.15, 0.15))
"""Overhang of the table beyond the workspace, m: (before, behind) in x, (right, left) in y."""

TABLE_THICKNESS = 0.04

GRASP_HEIGHT = 0.03
"""Height above the table at which the tool must reach objects, m."""

REACHED = 0.01
"""Maximum distance of the tool from a place that counts as reached, m."""

MIN_X_FRACTION = 0.3
"""Nearest x of objects, as a fraction of the workspace's far end; nearer, the arm folds onto itself."""

_SHRINK, _SHRINKS = 0.8, 6
_REFERENCE_TABLE = ((0.40, 0.0, -0.02), (0.45, 0.55, 0.02))


@dataclass(frozen=True)
class Layout:
    """Table and object area, in the base frame.

    Attributes:
        top: Height of the table's surface, m.
        table_center: (3,) m.
        table_half_size: (3,) m.
        x: Range that replaces the reference workspace's x range, m.
        y: Likewise.
    """

    top: float = 0.0
    table_center: tuple[float, float, float] = _REFERENCE_TABLE[0]
    table_half_size: tuple[float, float, float] = _REFERENCE_TABLE[1]
    x: Range = REFERENCE[0]
    y: Range = REFERENCE[1]

    @property
    def is_reference(self) -> bool:
        """Whether scenes are used unscaled."""
        return (self.x, self.y) == REFERENCE

    @property
    def scale(self) -> tuple[float, float]:
        """Size relative to the reference workspace in x and in y."""
        if self.is_reference:
            return 1.0, 1.0
        (x, y), (rx, ry) = (self.x, self.y), REFERENCE
        return (x[1] - x[0]) / (rx[1] - rx[0]), (y[1] - y[0]) / (ry[1] - ry[0])

    def area(self, reference: tuple[Range, Range]) -> tuple[Range, Range]:
        """Map an area (x range, y range) of the reference workspace to this layout, m."""
        if self.is_reference:
            return reference
        return _mapped(reference[0], REFERENCE[0], self.x), _mapped(reference[1], REFERENCE[1], self.y)


REFERENCE_LAYOUT = Layout()
"""Layout of a robot with the reference workspace."""


def _mapped(values: Range, source: Range, to: Range) -> Range:
    scale = (to[1] - to[0]) / (source[1] - source[0])
    return to[0] + (values[0] - source[0]) * scale, to[0] + (values[1] - source[0]) * scale


def plan_layout(contract: RobotContract, kinematics: Kinematics) -> Layout:
    """Return the layout for a contract; several arms share one table, and one of them must reach each place.

    Raises:
        SimulationError: when the tool does not reach the middle of its own workspace at table height.
    """
    lower, upper = _workspace(contract)
    names = [arm.name for arm in contract.arms]
    tools = [kinematics] if len(names) == 1 else [Kinematics(contract.led_by(name)) for name in names]
    top = 0.0 if 0.0 <= lower[2] <= WORKSPACE_CLEARANCE else float(lower[2]) - CLEARANCE_BELOW
    near = max(float(lower[0]), MIN_X_FRACTION * float(upper[0])) if upper[0] > 0.0 else float(lower[0])
    x, y = (near, float(upper[0])), (float(lower[1]), float(upper[1]))
    for _ in range(_SHRINKS):
        layout = Layout(top, *_table(contract, top), x, y)
        if all(_distance(contract, tools, place) <= REACHED for place in _places(layout)):
            return layout
        x, y = _shrunk(x), _shrunk(y)
    middle = _places(layout)[0]
    short = _distance(contract, tools, middle)
    x_text, y_text, z_text = (f"{value:.2f}" for value in middle)
    raise SimulationError(
        f"robot '{contract.name}' does not reach a table in its workspace: at ({x_text}, {y_text}, {z_text}) m of the "
        f"base frame its tool is {100 * short:.0f} cm short, or corners of the table are out of its reach; correct "
        "cartesian.workspace of the contract"
    )


def _workspace(contract: RobotContract) -> tuple[FloatArray, FloatArray]:
    """Return the lower and the upper corner (3,) m of the box around the workspaces of all arms."""
    boxes = [arm.cartesian for arm in contract.arms]
    lower = np.min([box.workspace_lower for box in boxes], axis=0)
    return lower, np.max([box.workspace_upper for box in boxes], axis=0)


def _places(layout: Layout) -> list[FloatArray]:
    """Return the middle and the corners of the object area at grasp height, (3,) m each."""
    x, y = layout.area(((0.38, 0.64), (-0.24, 0.24)))
    corners = [(0.5 * (x[0] + x[1]), 0.5 * (y[0] + y[1])), *((a, b) for a in x for b in y)]
    return [np.array([*corner, layout.top + GRASP_HEIGHT]) for corner in corners]


def _shrunk(values: Range) -> Range:
    middle, half = 0.5 * (values[0] + values[1]), 0.5 * _SHRINK * (values[1] - values[0])
    return middle - half, middle + half


def _table(contract: RobotContract, top: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return center and half size (3,) m: below the workspace, and also below the base if at the same height."""
    lower, upper = _workspace(contract)
    box = tuple((float(lower[i]), float(upper[i])) for i in (0, 1))
    if box == REFERENCE and top == 0.0:
        return _REFERENCE_TABLE
    (before, behind), (right, left) = TABLE_MARGINS
    x = (float(lower[0]) - (before if top == 0.0 else 0.0), float(upper[0]) + behind)
    y = (float(lower[1]) - right, float(upper[1]) + left)
    center = (0.5 * (x[0] + x[1]), 0.5 * (y[0] + y[1]), top - 0.5 * TABLE_THICKNESS)
    return center, (0.5 * (x[1] - x[0]), 0.5 * (y[1] - y[0]), 0.5 * TABLE_THICKNESS)


def _distance(contract: RobotContract, tools: Sequence[Kinematics], place: FloatArray) -> float:
    """Return the smallest distance that one of the tools reaches from a place (3,) m, m."""
    best = np.inf
    for kinematics in tools:
        best = min(best, _distance_of(contract, kinematics, place))
        if best <= REACHED:
            break
    return best


def _distance_of(contract: RobotContract, kinematics: Kinematics, place: FloatArray) -> float:
    """Return the smallest distance of the tool from a place (3,) m, m: damped least squares from several starts."""
    joints, best = contract.joints, np.inf
    starts = [joints.home, 0.5 * (joints.lower + joints.upper)]
    starts += list(np.random.default_rng(0).uniform(joints.lower, joints.upper, (6, joints.count)))
    for start in starts:
        q = np.clip(start, joints.lower, joints.upper)
        for _ in range(80):
            error = place - kinematics.placement(q).translation
            if np.linalg.norm(error) <= 0.5 * REACHED:
                break
            jacobian = kinematics.jacobian(q)[:3]
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-3 * np.eye(3), error)
            q = np.clip(q + step * min(1.0, 0.3 / max(float(np.abs(step).max()), 1e-12)), joints.lower, joints.upper)
        best = min(best, float(np.linalg.norm(place - kinematics.placement(q).translation)))
        if best <= REACHED:
            break
    return best
