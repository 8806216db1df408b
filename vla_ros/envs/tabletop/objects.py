"""Objects on the table: colors, shapes, and seeded placement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import SimulationError

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.08, 0.08),
    "green": (0.08, 0.60, 0.15),
    "blue": (0.08, 0.20, 0.80),
    "yellow": (0.90, 0.78, 0.05),
}
"""Color name to RGB, 0 to 1."""


@dataclass(frozen=True)
class Shape:
    """One kind of object.

    Attributes:
        geom: MuJoCo geom type.
        size: MuJoCo half sizes, m.
        half_height: Height of its center above the table when it stands, m.
        width: Width between the fingers, m.
    """

    geom: str
    size: tuple[float, float, float]
    half_height: float
    width: float


SHAPES: dict[str, Shape] = {
    "cube": Shape("box", (0.021, 0.021, 0.021), 0.021, 0.042),
    "cylinder": Shape("cylinder", (0.019, 0.032, 0.0), 0.032, 0.038),
    "ball": Shape("sphere", (0.025, 0.0, 0.0), 0.025, 0.050),
}

REACH = ((0.40, 0.62), (-0.20, 0.20))
"""Area for objects: (x range, y range) in the base frame, m."""

SPACING = 0.095
"""Smallest distance between two centers, m: an open finger fits between."""


@dataclass(frozen=True)
class SceneObject:
    """One placed object: `position` (x, y) m on the table and `yaw` rad."""

    colour: str
    shape: str
    position: tuple[float, float]
    yaw: float

    @property
    def name(self) -> str:
        """Its name in instructions, e.g. "red cube"."""
        return f"{self.colour} {self.shape}"

    @property
    def pair(self) -> tuple[str, str]:
        """(color, shape), as in a `Command`."""
        return self.colour, self.shape


def sample_scene(
    rng: np.random.Generator,
    count: int = 3,
    required: tuple[str, str] | None = None,
    reach: tuple[tuple[float, float], tuple[float, float]] = REACH,
) -> tuple[SceneObject, ...]:
    """Place `count` objects of different (color, shape), with no two closer than `SPACING`.

    Args:
        rng: Source of all randomness.
        count: Number of objects.
        required: (color, shape) that must be among them.
        reach: Area for them: (x range, y range) in the base frame, m.

    Raises:
        SimulationError: when they do not fit.
    """
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    order = [kinds[i] for i in rng.permutation(len(kinds))]
    chosen = order[:count]
    if required is not None and required not in chosen:
        chosen = [required, *chosen[: count - 1]]
    spots = _sample_spots(rng, len(chosen), reach)
    return tuple(
        SceneObject(colour, shape, spot, float(rng.uniform(-0.3, 0.3)))
        for (colour, shape), spot in zip(chosen, spots, strict=True)
    )


def _sample_spots(
    rng: np.random.Generator, count: int, reach: tuple[tuple[float, float], tuple[float, float]]
) -> Sequence[tuple[float, float]]:
    (x_low, x_high), (y_low, y_high) = reach
    for _ in range(1000):
        spots = np.stack([rng.uniform(x_low, x_high, count), rng.uniform(y_low, y_high, count)], axis=1)
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1)[np.triu_indices(count, 1)]
        if (gaps >= SPACING).all():
            return [(float(x), float(y)) for x, y in spots]
    raise SimulationError(f"{count} objects do not fit on the table at a spacing of {SPACING} m")


def required_object(instruction: str | None) -> tuple[str, str] | None:
    """Return the (color, shape) named by an instruction, which the scene must contain; None without an instruction.

    Raises:
        SimulationError: when it does not name a color and a shape.
    """
    if instruction is None:
        return None
    words = instruction.lower().split()
    colour = next((word for word in words if word in COLOURS), None)
    shape = next((word for word in words if word in SHAPES), None)
    if colour is None or shape is None:
        raise SimulationError(
            f"'{instruction}' must name a colour of {sorted(COLOURS)} and a shape of {sorted(SHAPES)}"
        )
    return colour, shape
