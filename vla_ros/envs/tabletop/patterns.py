"""What the table can be covered with: patterns that MuJoCo makes, and drawn ones for training scenes."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.types import FloatArray, ImageArray

Rgb = tuple[float, float, float]

_CHECKER, _FLAT, _GRADIENT = (
    mujoco.mjtBuiltin.mjBUILTIN_CHECKER, mujoco.mjtBuiltin.mjBUILTIN_FLAT, mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
)  # fmt: skip
_PLAIN, _CROSS, _RANDOM = mujoco.mjtMark.mjMARK_NONE, mujoco.mjtMark.mjMARK_CROSS, mujoco.mjtMark.mjMARK_RANDOM

BUILT_IN: dict[str, tuple[mujoco.mjtBuiltin, mujoco.mjtMark, Rgb, Rgb, float]] = {
    "table_checker": (_CHECKER, _PLAIN, (0.30, 0.34, 0.38), (0.62, 0.64, 0.66), 5.0),
    "table_dark": (_FLAT, _PLAIN, (0.20, 0.17, 0.15), (0.20, 0.17, 0.15), 1.0),
    "table_gradient": (_GRADIENT, _PLAIN, (0.85, 0.84, 0.80), (0.45, 0.55, 0.58), 1.0),
    "table_squares": (_CHECKER, _PLAIN, (0.92, 0.88, 0.80), (0.70, 0.62, 0.52), 2.0),
    "table_fine_checker": (_CHECKER, _PLAIN, (0.55, 0.60, 0.55), (0.85, 0.88, 0.86), 9.0),
    "table_slope": (_GRADIENT, _PLAIN, (0.40, 0.36, 0.34), (0.80, 0.76, 0.74), 1.0),
    "table_dots": (_FLAT, _RANDOM, (0.70, 0.70, 0.68), (0.25, 0.25, 0.28), 1.0),
    "table_crosses": (_FLAT, _CROSS, (0.50, 0.46, 0.42), (0.90, 0.90, 0.90), 6.0),
}
"""Name of a material to (pattern, mark, first colour, second colour and that of marks, repetitions)."""

DRAWN = tuple(f"table_drawn_{number}" for number in range(48))
"""Names of the materials that `draw_pattern` makes; the number is the seed."""

DRAWN_SIDE = 128
"""Pixels a side of a drawn pattern."""

MOST_SATURATION = 0.5
"""Of a drawn pattern's colours: a table as vivid as the things on it would hide them."""


def draw_pattern(rng: np.random.Generator, side: int = DRAWN_SIDE) -> ImageArray:
    """Return a pattern (side, side, 3) uint8: two or three colours as stripes, patches, clouds or speckles."""
    colours = np.stack([_colour(rng) for _ in range(int(rng.integers(2, 4)))])
    kind = (_stripes, _patches, _clouds, _speckles)[int(rng.integers(4))]
    picture = kind(rng, side, colours) + rng.normal(0.0, 0.02, (side, side, 1))
    return np.clip(picture * 255.0, 0.0, 255.0).astype(np.uint8)


def add_patterns(spec: mujoco.MjSpec) -> None:
    """Add a material for each pattern to a cell."""
    for name, (pattern, mark, first, second, repeat) in BUILT_IN.items():
        spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=pattern, mark=mark, rgb1=first,
                         rgb2=second, markrgb=second, random=0.02, width=256, height=256)  # fmt: skip
        _add_material(spec, name, repeat)
    for seed, name in enumerate(DRAWN):
        rng = np.random.default_rng(seed)
        texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, nchannel=3, width=DRAWN_SIDE,
                                   height=DRAWN_SIDE)  # fmt: skip
        texture.data = draw_pattern(rng).tobytes()
        _add_material(spec, name, float(rng.uniform(1.0, 4.0)))


def _add_material(spec: mujoco.MjSpec, name: str, repeat: float) -> None:
    material = spec.add_material(name=name, texrepeat=[repeat, repeat])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _colour(rng: np.random.Generator) -> FloatArray:
    """Return RGB, dark to light alike, mostly dull."""
    light, saturation = rng.uniform(0.05, 0.95), MOST_SATURATION * rng.uniform() ** 2
    hue = rng.dirichlet(np.ones(3))
    return np.asarray(light * (1.0 - saturation + saturation * hue / hue.max()))


def _stripes(rng: np.random.Generator, side: int, colours: FloatArray) -> FloatArray:
    angle, period = rng.uniform(0.0, np.pi), rng.uniform(8.0, side / 2.0)
    y, x = np.mgrid[:side, :side]
    return _banded((x * np.cos(angle) + y * np.sin(angle)) / period % 1.0, colours)


def _patches(rng: np.random.Generator, side: int, colours: FloatArray) -> FloatArray:
    """Every pixel has the colour of the nearest of a few points."""
    points = rng.uniform(0.0, side, (int(rng.integers(5, 60)), 2))
    pixels = np.stack(list(np.mgrid[:side, :side]), axis=-1)
    nearest = np.linalg.norm(pixels[:, :, None] - points, axis=-1).argmin(axis=-1)
    return np.asarray(colours[rng.integers(len(colours), size=len(points))][nearest])


def _clouds(rng: np.random.Generator, side: int, colours: FloatArray) -> FloatArray:
    return _blended(_smooth(rng, side, int(rng.integers(3, 12))), colours)


def _speckles(rng: np.random.Generator, side: int, colours: FloatArray) -> FloatArray:
    """Fine grains of the second colour on the first, in places denser."""
    many = rng.uniform(size=(side, side)) < 0.6 * _smooth(rng, side, 4)
    return np.asarray(np.where(many[..., None], colours[1], colours[0]))


def _smooth(rng: np.random.Generator, side: int, cells: int) -> FloatArray:
    """Return (side, side) 0 to 1: a coarse grid of random numbers, interpolated."""
    grid = rng.uniform(size=(cells, cells))
    at = np.linspace(0.0, cells - 1.0, side)
    rows = np.stack([np.interp(at, np.arange(cells), row) for row in grid])
    values = np.stack([np.interp(at, np.arange(cells), column) for column in rows.T], axis=1)
    return np.asarray((values - values.min()) / max(np.ptp(values), 1e-9))


def _banded(share: NDArray[np.float64], colours: FloatArray) -> FloatArray:
    return np.asarray(colours[np.minimum((share * len(colours)).astype(np.int64), len(colours) - 1)])


def _blended(share: NDArray[np.float64], colours: FloatArray) -> FloatArray:
    at = np.linspace(0.0, 1.0, len(colours))
    return np.stack([np.interp(share, at, channel) for channel in colours.T], axis=-1)
