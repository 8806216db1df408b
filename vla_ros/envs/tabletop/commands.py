"""Enumerates possible instructions for a scene, and chooses those that an episode labels.

The instructions of an episode refer to the same objects on the same table, so that the same image occurs with different
instructions and different actions: pick it, put it there, push it, take the other one.
"""

from __future__ import annotations

import numpy as np

from vla_ros.envs.tabletop.scene import FLAT, RECEPTACLES, STACKABLE, TabletopScene
from vla_ros.errors import SimulationError
from vla_ros.language.commands import Act, Command
from vla_ros.language.lexicon import DIRECTIONS

LABELLED = 8
"""Largest number of instructions labeled in every state of an episode."""


def pick_commands(scene: TabletopScene, rng: np.random.Generator) -> list[Command]:
    """Return "pick" for every object of a scene, in order; draws no random numbers."""
    del rng
    return [Command(Act.PICK, item.pair) for item in scene.objects]


def choose_commands(scene: TabletopScene, rng: np.random.Generator, count: int = LABELLED) -> list[Command]:
    """Return `count` different commands for a scene: its own, some about the same object, then others."""
    every = possible_commands(scene)
    if scene.command not in every:
        raise SimulationError(f"the scene's own command {scene.command} is not possible in it")
    others = [command for command in every if command != scene.command]
    same = [c for c in others if c.thing == scene.command.thing]
    rest = [c for c in others if c.thing != scene.command.thing]
    mixed = [same[i] for i in rng.permutation(len(same))][: count // 2 - 1] + [
        rest[i] for i in rng.permutation(len(rest))
    ]
    spare = [c for c in others if c not in mixed]
    return [scene.command, *mixed, *(spare[i] for i in rng.permutation(len(spare)))][:count]


def possible_commands(scene: TabletopScene) -> list[Command]:
    """Return every possible command for a scene."""
    commands = []
    for item in scene.objects:
        thing = item.pair
        commands.append(Command(Act.PICK, thing))
        commands += [Command(Act.PUSH, thing, None, direction) for direction in DIRECTIONS]
        for other in scene.things:
            goal = other.pair
            if other.shape in RECEPTACLES:
                commands.append(Command(Act.PLACE, thing, goal))
            elif goal != thing and other.shape in FLAT and item.shape in STACKABLE:
                commands.append(Command(Act.STACK, thing, goal))
    return commands
