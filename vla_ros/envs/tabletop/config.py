"""Configurations of the tabletop environment: "pick" and the tabletop tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vla_ros.envs.tabletop import objects, scene
from vla_ros.envs.tabletop.commands import choose_commands, pick_commands
from vla_ros.envs.tabletop.objects import Shape
from vla_ros.envs.tabletop.scene import Area, TabletopScene
from vla_ros.language.commands import Command


@dataclass(frozen=True)
class Appearance:
    """Ranges of a scene's visual variation without any perturbation.

    Attributes:
        light: Largest shift of the lamp per axis, m.
        brightness: Largest relative change of its light.
        table: Largest change of the table's RGB channels.
        camera: Largest shift of cameras per axis, m.
        arm_camera: Factor on `camera` for cameras on the arm.
        camera_turn: Largest rotation of cameras per axis, rad.
    """

    light: float
    brightness: float
    table: float
    camera: float
    arm_camera: float
    camera_turn: float = 0.0


@dataclass(frozen=True)
class TabletopConfig:
    """One configuration of the tabletop environment.

    Attributes:
        shapes: Possible shapes of objects.
        max_objects: Largest number of objects.
        furnished: Whether there are receptacles, distractors and table patterns.
        area: Area for objects in the reference workspace, (x range, y range) m.
        draw: Draws a scene and its instruction, from a generator, an instruction or None, and the area, m.
        parse: Parses an instruction for a scene.
        commands: Chooses the commands that an episode labels, the scene's own among them.
        appearance: Ranges of visual variation.
        start_spread: Largest offset of each arm joint from home at the start, rad.
        origin_follows_instruction: Measure object motion from the last instruction; otherwise from the reset.
        handled: Displacement from which an object counts as handled, m; None: when it is lifted and held.
        switch: Range of steps at which a collected episode may change its instruction, [first, last).
    """

    shapes: Mapping[str, Shape]
    max_objects: int
    furnished: bool
    area: Area
    draw: Callable[[np.random.Generator, str | None, Area], tuple[TabletopScene, str]]
    parse: Callable[[str, TabletopScene], Command]
    commands: Callable[[TabletopScene, np.random.Generator], list[Command]]
    appearance: Appearance
    start_spread: float
    origin_follows_instruction: bool
    handled: float | None
    switch: tuple[int, int]


PICK = TabletopConfig(
    shapes=objects.SHAPES,
    max_objects=3,
    furnished=False,
    area=objects.REACH,
    draw=scene.draw_pick,
    parse=scene.parse_pick,
    commands=pick_commands,
    appearance=Appearance(light=0.3, brightness=0.2, table=0.06, camera=0.004, arm_camera=1.0),
    start_spread=0.08,
    origin_follows_instruction=False,
    handled=None,
    switch=(4, 18),
)
"""Pick up one of three objects."""

TABLETOP = TabletopConfig(
    shapes=scene.SHAPES,
    max_objects=scene.MAX_THINGS,
    furnished=True,
    area=scene.REACH,
    draw=scene.draw_tabletop,
    parse=scene.parse_tabletop,
    commands=choose_commands,
    appearance=Appearance(light=0.4, brightness=0.3, table=0.12, camera=0.008, arm_camera=0.2, camera_turn=0.008),
    start_spread=0.10,
    origin_follows_instruction=True,
    handled=0.025,
    switch=(6, 40),
)
"""Pick, place, push and stack, with two to five objects on the table."""
