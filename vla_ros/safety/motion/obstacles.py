"""Obstacles and keep-out volumes as primitive shapes in the base frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from vla_ros.errors import ContractError
from vla_ros.types import FloatArray, frozen_array


class Shape(Enum):
    """Primitive shapes; the value is the name in the configuration."""

    BOX = "box"
    SPHERE = "sphere"
    CYLINDER = "cylinder"
    CAPSULE = "capsule"


LINES: Mapping[Shape, Mapping[str, int]] = {
    Shape.BOX: {"size": 3, "position": 3, "rotation": 3},
    Shape.SPHERE: {"radius": 1, "position": 3},
    Shape.CYLINDER: {"radius": 1, "length": 1, "position": 3, "rotation": 3},
    Shape.CAPSULE: {"radius": 1, "length": 1, "position": 3, "rotation": 3},
}
"""Fields of each shape, and the number of values in each."""


@dataclass(frozen=True)
class Obstacle:
    """One shape.

    Attributes:
        name: User-facing name.
        shape: Kind of shape.
        dimensions: m: the sides (3,) of a box, the radius (1,) of a sphere, radius and length (2,) of the others, whose
            axis is z; the length of a capsule is that of its straight part.
        position: (3,) m, center.
        rotation: (3,) rad, roll, pitch and yaw about the fixed axes of the base frame.
    """

    name: str
    shape: Shape
    dimensions: FloatArray
    position: FloatArray
    rotation: FloatArray

    @classmethod
    def box(cls, name: str, size: FloatArray, position: FloatArray) -> Obstacle:
        """Create a box aligned with the base frame, m."""
        return cls(name, Shape.BOX, frozen_array(size), frozen_array(position), frozen_array(np.zeros(3)))


def parse_obstacles(content: Any, where: str) -> tuple[Obstacle, ...]:  # noqa: ANN401 (whatever YAML holds)
    """Parse the obstacles of a configuration; an empty section explicitly means free space.

    Raises:
        ContractError: naming the field that is missing, unknown or not numeric.
    """
    if content is None:
        return ()
    if not isinstance(content, Mapping):
        raise ContractError(f"{where}: expected a mapping from name to shape, got {type(content).__name__}")
    return tuple(_obstacle(str(name), lines, f"{where}.{name}") for name, lines in content.items())


def _obstacle(name: str, lines: Any, where: str) -> Obstacle:  # noqa: ANN401
    words = [shape.value for shape in Shape]
    if not isinstance(lines, Mapping) or lines.get("shape") not in words:
        got = lines.get("shape") if isinstance(lines, Mapping) else lines
        raise ContractError(f"{where}.shape: got {got!r}, expected one of {', '.join(words)}")
    shape = Shape(lines["shape"])
    missing, unknown = set(LINES[shape]) - set(lines), set(lines) - set(LINES[shape]) - {"shape"}
    if missing or unknown:
        raise ContractError(f"{where}: missing {sorted(missing)}, unknown {sorted(map(str, unknown))}")
    values = {line: _numbers(lines[line], count, f"{where}.{line}") for line, count in LINES[shape].items()}
    sizes = [values.pop(line) for line in ("size", "radius", "length") if line in values]
    dimensions = frozen_array(np.concatenate(sizes))
    if not (dimensions > 0.0).all():
        raise ContractError(f"{where}: expected sizes above 0, got {dimensions.tolist()}")
    rotation = values.get("rotation", frozen_array(np.zeros(3)))
    return Obstacle(name, shape, dimensions, values["position"], rotation)


def _numbers(value: Any, count: int, where: str) -> FloatArray:  # noqa: ANN401
    """Return finite numbers, (count,)."""
    rows = value if isinstance(value, list) else [value]
    sound = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in rows)
    if not sound or len(rows) != count or isinstance(value, list) is (count == 1) or not np.isfinite(rows).all():
        raise ContractError(f"{where}: got {value!r}, expected {count} finite number{'s' if count > 1 else ''}")
    return frozen_array(rows)
