"""Names, scene layout and success checking of the Gazebo workcell, without running Gazebo.

The same seed gives the same objects in the same places as in the MuJoCo workcell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from vla_ros.envs.env import TaskStatus
from vla_ros.envs.tabletop.objects import COLOURS, SHAPES, SceneObject, required_object, sample_scene
from vla_ros.envs.tabletop.tasks import judge_pick, named_object, pick_instruction
from vla_ros.types import FloatArray

WORLD = "pick"
"""Name of the world, and of its file under worlds/."""

PLACING_GAP = 0.002
"""Height from which objects are dropped into place, m."""


def model_name(colour: str, shape: str) -> str:
    """Return the name of an object's model."""
    return f"{colour}_{shape}"


PARKED: Mapping[str, tuple[float, float, float]] = {
    model_name(colour, shape): (1.8 + 0.15 * column, -0.6 + 0.4 * row, -0.75 + SHAPES[shape].half_height)
    for (row, colour), (column, shape) in product(enumerate(COLOURS), enumerate(SHAPES))
}
"""Position of each object while no scene uses it, m: on the floor, outside the view of the front camera."""


def looking_pose(position: Sequence[float], target: Sequence[float]) -> tuple[float, ...]:
    """Return x, y, z, roll, pitch, yaw (m, rad) of a camera at `position` that looks at `target`.

    Gazebo's cameras look along +x. The horizontal image axis is level, as in the workcell's cameras.
    """
    forward = np.subtract(target, position)
    forward = forward / np.linalg.norm(forward)
    return (*map(float, position), 0.0, float(-np.arcsin(forward[2])), float(np.arctan2(forward[1], forward[0])))


def horizontal_fov(fovy: float, width: int, height: int) -> float:
    """Return the horizontal field of view, rad, of a pinhole camera with square pixels and vertical `fovy`, deg."""
    return float(2.0 * np.arctan(np.tan(np.radians(fovy) / 2.0) * width / height))


@dataclass(frozen=True)
class GazeboScene:
    """A scene to lay out: objects, its instruction, and the pose of each model.

    Attributes:
        objects: Objects on the table.
        instruction: Instruction of the scene.
        poses: Model to x, y, z (m) and yaw (rad), for every model of the world.
    """

    objects: tuple[SceneObject, ...]
    instruction: str
    poses: Mapping[str, tuple[float, float, float, float]]


def lay_out(seed: int, instruction: str | None = None) -> GazeboScene:
    """Return the scene of a seed: the objects, poses and (unless `instruction` is given) task of the MuJoCo workcell.

    Raises:
        SimulationError: when the instruction names no object of the workcell.
    """
    rng = np.random.default_rng(seed)
    objects = sample_scene(rng, required=required_object(instruction))
    chosen = objects[int(rng.integers(len(objects)))].name
    poses = {name: (*place, 0.0) for name, place in PARKED.items()}
    for item in objects:
        height = SHAPES[item.shape].half_height + PLACING_GAP
        poses[model_name(item.colour, item.shape)] = (*item.position, height, item.yaw)
    return GazeboScene(objects, instruction or pick_instruction(chosen), poses)


class GazeboSuccessChecker:
    """Success checker of "pick up", from model poses and finger contacts. Times are s on one clock."""

    def __init__(self, scene: GazeboScene, touch_memory: float = 0.2) -> None:
        """Check `scene`; a contact counts for `touch_memory` s, since contacts arrive at a finite rate."""
        self._scene, self._memory = scene, touch_memory
        self._instruction = scene.instruction
        self._positions: dict[str, FloatArray] = {}
        self._touched: dict[str, dict[str, float]] = {"left": {}, "right": {}}

    @property
    def instruction(self) -> str:
        """The instruction being checked."""
        return self._instruction

    def follow(self, instruction: str) -> None:
        """Check another instruction for the same scene.

        Raises:
            InstructionError: when it does not name one object on the table.
        """
        named_object(instruction, self._scene.objects)
        self._instruction = instruction

    def moved(self, model: str, position: FloatArray) -> None:
        """Update the position of a model, (3,) m in the world."""
        self._positions[model] = position

    def touched(self, finger: str, model: str, now: float) -> None:
        """Record a contact of a finger, "left" or "right", with a model."""
        self._touched[finger][model] = now

    def in_place(self, tolerance: float) -> bool:
        """Return whether every object of the scene is at its initial place, within `tolerance` m."""
        for item in self._scene.objects:
            name = model_name(item.colour, item.shape)
            wanted = np.array([*item.position, SHAPES[item.shape].half_height])
            if name not in self._positions or not np.linalg.norm(self._positions[name] - wanted) <= tolerance:
                return False
        return True

    def grasped(self, now: float) -> str:
        """Return the name of the object that both fingers touch, or ""."""
        for item in self._scene.objects:
            name = model_name(item.colour, item.shape)
            if all(0.0 <= now - touches.get(name, -np.inf) <= self._memory for touches in self._touched.values()):
                return item.name
        return ""

    def verdict(self, now: float) -> TaskStatus:
        """Return the status of the current instruction."""
        target = named_object(self._instruction, self._scene.objects)
        position = self._positions.get(model_name(target.colour, target.shape))
        lift = 0.0 if position is None else float(position[2]) - SHAPES[target.shape].half_height
        return judge_pick(target, lift, self.grasped(now))
