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
    """How far a scene's look varies without any perturbation.

    Attributes:
        light: The lamp moves by up to this a axis, m.
        brightness: Its light changes by up to this fraction.
        table: The table's RGB channels change by up to this.
        camera: Cameras move by up to this a axis, m.
        arm_camera: Those on the arm by this fraction of it.
        camera_turn: Cameras turn by up to this a axis, rad.
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
        shapes: What an object can be.
        max_objects: How many there can be.
        furnished: Whether there are receptacles, distractors and patterns of the table.
        area: Where objects lie in the reference workspace, (x range, y range) m.
        draw: Draws a scene and what is asked for, from a generator, an instruction or None, and the area, m.
        parse: Reads an instruction about a scene.
        commands: Chooses the commands that an episode labels, the scene's own among them.
        appearance: How far the look varies.
        start_spread: Each arm joint starts within this of home, rad.
        origin_follows_instruction: Motion of objects counts from the last instruction; else from the reset.
        handled: An object that has moved this far, m, counts as handled; None: one that is lifted and held.
        switch: Steps between which a collected episode may change its instruction, [first, last).
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
"""Pick, place, push and stack, with two to five things on the table."""
