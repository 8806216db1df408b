"""Maps a command to class indices of the compositional network's concepts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vla_ros.language.commands import Act, Command
from vla_ros.language.lexicon import COLOURS, OBJECTS, RECEPTACLES
from vla_ros.models.layers.sentences import ACTS
from vla_ros.models.networks.compositional import CONCEPTS

COLOUR_NAMES, KIND_NAMES = tuple(COLOURS), (*OBJECTS, *RECEPTACLES)
"""Class names in order; one more class stands for "no goal"."""


def concept_classes(command: Command) -> tuple[int, ...]:
    """Return the class index of each of `CONCEPTS`."""
    act = {Act.PICK: "pick", Act.PLACE: "carry", Act.STACK: "carry"}.get(command.act, command.direction or "")
    colour, kind = command.thing
    goal = (len(COLOUR_NAMES), len(KIND_NAMES))
    if command.goal is not None:
        goal = (COLOUR_NAMES.index(command.goal[0]), KIND_NAMES.index(command.goal[1]))
    return ACTS.index(act), COLOUR_NAMES.index(colour), KIND_NAMES.index(kind), *goal


def concept_columns(commands: Sequence[Sequence[Command]]) -> dict[str, NDArray[np.int64]]:
    """Return class indices (B, N) by concept for N commands in each of B scenes."""
    table = np.array([[concept_classes(command) for command in scene] for scene in commands], np.int64)
    return {name: table[..., column] for column, name in enumerate(CONCEPTS)}
