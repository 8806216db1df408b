"""Tabletop scenes: objects, held-out pairs, and seeded placement.

A few pairs of color and shape never appear in training scenes: `HELD_OUT_PAIRS`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.envs.tabletop.objects import COLOURS as PICK_COLOURS
from vla_ros.envs.tabletop.objects import SHAPES as PICK_SHAPES
from vla_ros.envs.tabletop.objects import SceneObject, Shape, required_object, sample_scene
from vla_ros.envs.tabletop.tasks import named_object, pick_instruction
from vla_ros.errors import InstructionError, SimulationError
from vla_ros.language.commands import Act, Command, understand
from vla_ros.language.lexicon import DIRECTIONS
from vla_ros.language.phrasing import say
from vla_ros.types import FloatArray

COLOURS: dict[str, tuple[float, float, float]] = PICK_COLOURS | {
    "orange": (0.95, 0.42, 0.04),
    "purple": (0.45, 0.10, 0.62),
}
"""Color name to RGB, 0 to 1."""

SHAPES: dict[str, Shape] = PICK_SHAPES | {"disc": Shape("cylinder", (0.028, 0.014, 0.0), 0.014, 0.056)}
"""Graspable shapes."""

RECEPTACLES: dict[str, Shape] = {
    "bowl": Shape("ring", (0.050, 0.068, 0.036), 0.018, 0.136),
    "plate": Shape("ring", (0.058, 0.064, 0.014), 0.007, 0.128),
}
"""Receptacles; sizes are inner radius, outer radius and height of the rim, m."""

MAX_THINGS, MAX_RECEPTACLES = 5, 2

FLAT = ("cube", "disc")
"""Shapes on which something can be stacked."""

STACKABLE = ("cube", "cylinder", "disc")
"""Shapes that can be stacked: they stay where they are put."""

Area = tuple[tuple[float, float], tuple[float, float]]
"""x range and y range in the base frame, m."""

REACH: Area = ((0.38, 0.64), (-0.24, 0.24))
"""Area for objects: (x range, y range) in the base frame, m."""

GAP = 0.045
"""Free space between two objects, m: an open finger fits between."""

PUSH_WAY = 0.12
"""Free distance ahead of an object to be pushed, m; `HAND_ROOM` behind it is for the hand."""

HAND_ROOM = 0.085

DIRECTION_VECTORS: dict[str, tuple[float, float]] = {
    "left": (0.0, 1.0),
    "right": (0.0, -1.0),
    "forward": (1.0, 0.0),
    "back": (-1.0, 0.0),
}

_TRIES = 400


HELD_OUT_PAIRS = frozenset(zip(COLOURS, [*SHAPES, *SHAPES], strict=False)) | {("green", "bowl"), ("orange", "plate")}
"""(color, shape) pairs that never occur in training: one of four shapes for each color, and two receptacles."""


def radius(shape: str) -> float:
    """Return the radius of an object of this shape on the table, m."""
    if shape in RECEPTACLES:
        return RECEPTACLES[shape].size[1]
    return SHAPES[shape].width / 2.0


def pairs(shapes: dict[str, Shape], held_out: bool | None) -> list[tuple[str, str]]:
    """Return the (color, shape) pairs of `shapes`: only held-out ones, only the others, or all (None)."""
    every = [(colour, shape) for colour in COLOURS for shape in shapes]
    return [p for p in every if held_out is None or (p in HELD_OUT_PAIRS) == held_out]


def sample_command(rng: np.random.Generator, act: Act | None = None, held_out: bool = False) -> Command:
    """Draw a command.

    Args:
        rng: Source of all randomness.
        act: The act; drawn as well when None.
        held_out: Whether the object to move is a held-out pair; otherwise neither it nor the goal is one.
    """
    act = act or list(Act)[int(rng.integers(len(Act)))]
    fitting = [p for p in pairs(SHAPES, held_out) if act is not Act.STACK or p[1] in STACKABLE]
    thing = fitting[int(rng.integers(len(fitting)))]
    if act is Act.PICK:
        return Command(act, thing)
    if act is Act.PUSH:
        return Command(act, thing, None, list(DIRECTIONS)[int(rng.integers(len(DIRECTIONS)))])
    if act is Act.PLACE:
        goals = pairs(RECEPTACLES, None if held_out else False)
    else:
        goals = [p for p in pairs(SHAPES, False) if p[1] in FLAT and p != thing]
    return Command(act, thing, goals[int(rng.integers(len(goals)))])


@dataclass(frozen=True)
class TabletopScene:
    """Objects and receptacles placed for a seed and a command; `things` holds objects, then receptacles."""

    command: Command
    objects: tuple[SceneObject, ...]
    receptacles: tuple[SceneObject, ...]

    @property
    def things(self) -> tuple[SceneObject, ...]:
        """All objects, then all receptacles."""
        return self.objects + self.receptacles


def draw_pick(rng: np.random.Generator, instruction: str | None, reach: Area) -> tuple[TabletopScene, str]:
    """Draw three objects, including any named by `instruction`; return the scene and its instruction.

    Raises:
        SimulationError: when the instruction does not name a color and a shape, or the objects do not fit.
        InstructionError: when it names more than one of the objects.
    """
    objects = sample_scene(rng, required=required_object(instruction), reach=reach)
    chosen = objects[int(rng.integers(len(objects)))]
    asked = chosen if instruction is None else named_object(instruction, objects)
    return TabletopScene(Command(Act.PICK, asked.pair), objects, ()), instruction or pick_instruction(chosen.name)


def parse_pick(instruction: str, scene: TabletopScene) -> Command:
    """Parse which object of the scene to pick up; a color or a shape is enough if it is unique.

    Raises:
        InstructionError: when the instruction does not name one object of the scene.
    """
    return Command(Act.PICK, named_object(instruction, scene.objects).pair)


def draw_tabletop(rng: np.random.Generator, instruction: str | None, reach: Area) -> tuple[TabletopScene, str]:
    """Draw a command, or parse `instruction`; place its objects and as many others as fit.

    Raises:
        SimulationError: when the command's own objects do not fit.
        InstructionError: when the instruction is none of the tasks.
    """
    command = sample_command(rng) if instruction is None else understand(instruction)
    for most in range(MAX_THINGS, 2, -1):
        try:
            return sample_tabletop(rng, command, reach, most), instruction or say(command)
        except SimulationError:
            continue
    return sample_tabletop(rng, command, reach, 2), instruction or say(command)


def parse_tabletop(instruction: str, scene: TabletopScene) -> Command:
    """Parse an instruction, in any words of the lexicon.

    Raises:
        InstructionError: when it names objects that are not in the scene.
    """
    command = understand(instruction)
    there = [item.pair for item in scene.things]
    for pair in (command.thing, command.goal):
        if pair is not None and pair not in there:
            names = ", ".join(item.name for item in scene.things)
            raise InstructionError(f"'{instruction}': there is no {' '.join(pair)} on the table, only {names}")
    return command


def sample_tabletop(
    rng: np.random.Generator, command: Command, reach: Area = REACH, most: int = MAX_THINGS
) -> TabletopScene:
    """Place the objects of `command` and others beside them, two to five in all.

    The others are never held-out pairs; half of them share color or shape with the object to be moved, so that a
    policy has to read both words.

    Args:
        rng: Source of all randomness.
        command: Parsed instruction.
        reach: Area for objects: (x range, y range) in the base frame, m.
        most: Largest number of objects.

    Raises:
        SimulationError: when they do not fit.
    """
    wanted = [command.thing] + ([command.goal] if command.goal is not None else [])
    objects = [p for p in wanted if p[1] in SHAPES]
    bowls = [p for p in wanted if p[1] in RECEPTACLES]
    count = int(rng.integers(max(2, len(wanted)), most + 1))
    while len(objects) + len(bowls) < count:
        if len(bowls) < MAX_RECEPTACLES and rng.random() < 0.25:
            bowls.append(_another(rng, pairs(RECEPTACLES, False), bowls, None))
        else:
            near = command.thing if rng.random() < 0.5 else None
            objects.append(_another(rng, pairs(SHAPES, False), objects, near))
    spots = place_apart(rng, [p[1] for p in objects + bowls], command.direction, reach)
    things = [
        SceneObject(colour, shape, spot, float(rng.uniform(-0.3, 0.3)))
        for (colour, shape), spot in zip(objects + bowls, spots, strict=True)
    ]
    return TabletopScene(command, tuple(things[: len(objects)]), tuple(things[len(objects) :]))


def _another(
    rng: np.random.Generator, among: list[tuple[str, str]], taken: list[tuple[str, str]], near: tuple[str, str] | None
) -> tuple[str, str]:
    free = [p for p in among if p not in taken]
    alike = [p for p in free if near is not None and (p[0] == near[0] or p[1] == near[1])]
    choice = alike or free
    return choice[int(rng.integers(len(choice)))]


def place_apart(
    rng: np.random.Generator, shapes: list[str], direction: str | None = None, reach: Area = REACH
) -> list[tuple[float, float]]:
    """Return non-overlapping places (x, y) m for objects of `shapes`.

    With a `direction` the first has free space ahead of it and room for the hand behind it.

    Raises:
        SimulationError: when no such places were found.
    """
    (x_low, x_high), (y_low, y_high) = reach
    for _ in range(_TRIES):
        spots: list[FloatArray] = []
        for index, shape in enumerate(shapes):
            for _ in range(30):
                spot = np.array([rng.uniform(x_low, x_high), rng.uniform(y_low, y_high)])
                if index == 0 and direction is not None and not _has_way(spot, direction, reach):
                    continue
                if all(
                    _distance(spot, other, direction if j == 0 else None) >= radius(shape) + radius(shapes[j]) + GAP
                    for j, other in enumerate(spots)
                ):
                    spots.append(spot)
                    break
            else:
                break
        if len(spots) == len(shapes):
            return [(float(x), float(y)) for x, y in spots]
    raise SimulationError(f"{len(shapes)} things do not fit on the table at a gap of {GAP} m")


def _has_way(spot: FloatArray, direction: str, reach: Area) -> bool:
    (x_low, x_high), (y_low, y_high) = reach
    x, y = spot + PUSH_WAY * np.array(DIRECTION_VECTORS[direction])
    from_x, from_y = spot - HAND_ROOM * np.array(DIRECTION_VECTORS[direction])
    ends = x_low - 0.02 <= x <= x_high + 0.02 and y_low - 0.06 <= y <= y_high + 0.06
    return bool(ends and x_low - 0.06 <= from_x <= x_high + 0.04 and y_low - 0.08 <= from_y <= y_high + 0.08)


def _distance(spot: FloatArray, other: FloatArray, direction: str | None) -> float:
    """Return the distance of `spot` from `other`, or from the path along which `other` is pushed."""
    if direction is None:
        return float(np.linalg.norm(spot - other))
    way = np.array(DIRECTION_VECTORS[direction])
    along = float(np.clip((spot - other) @ way, -HAND_ROOM + 0.02, PUSH_WAY - 0.03))
    return float(np.linalg.norm(spot - other - along * way))
