"""Adds the tabletop objects to the workcell's MuJoCo model: receptacles, distractors, and table patterns."""

from __future__ import annotations

import mujoco
import numpy as np

from vla_ros.envs.mujoco.model import ARM_BITS, OBJECT_BITS
from vla_ros.envs.tabletop.patterns import add_patterns
from vla_ros.envs.tabletop.scene import MAX_RECEPTACLES, RECEPTACLES

SEGMENTS = 14
"""Number of boxes that form a rim."""

FLOOR_HALF_HEIGHT = 0.002
RECEPTACLE_MASS = 0.4

DISTRACTORS: dict[str, tuple[mujoco.mjtGeom, list[float], list[float]]] = {
    "distractor_0": (mujoco.mjtGeom.mjGEOM_CAPSULE, [0.016, 0.030, 0.0], [0.92, 0.92, 0.90, 1.0]),
    "distractor_1": (mujoco.mjtGeom.mjGEOM_ELLIPSOID, [0.040, 0.024, 0.018], [0.12, 0.12, 0.13, 1.0]),
    "distractor_2": (mujoco.mjtGeom.mjGEOM_BOX, [0.012, 0.055, 0.012], [0.95, 0.55, 0.70, 1.0]),
    "clutter_0": (mujoco.mjtGeom.mjGEOM_CAPSULE, [0.012, 0.045, 0.0], [0.45, 0.28, 0.16, 1.0]),
    "clutter_1": (mujoco.mjtGeom.mjGEOM_ELLIPSOID, [0.030, 0.030, 0.012], [0.30, 0.75, 0.78, 1.0]),
    "clutter_2": (mujoco.mjtGeom.mjGEOM_BOX, [0.045, 0.030, 0.008], [0.55, 0.55, 0.56, 1.0]),
}
"""Name to (geom type, half sizes m, RGBA): shapes and colors that no instruction names; see `perturbations`."""


def receptacle_body(index: int) -> str:
    """Return the name of the body of receptacle `index`."""
    return f"receptacle_{index}"


def receptacle_geoms(index: int, kind: str) -> list[str]:
    """Return the names of the geoms that show receptacle `index` as `kind`."""
    return [f"receptacle_{index}_{kind}_{part}" for part in range(SEGMENTS + 1)]


def furnish(spec: mujoco.MjSpec) -> None:
    """Add all of them to a workcell."""
    spec.compiler.discardvisual = False  # keeps the materials, which no geom uses until a table is perturbed
    for index in range(MAX_RECEPTACLES):
        body = spec.worldbody.add_body(name=receptacle_body(index), pos=[-1.0, 0.3 * index, 0.0])
        body.add_freejoint(name=receptacle_body(index))
        body.explicitinertial = True
        body.mass, body.inertia = RECEPTACLE_MASS, [6.0e-4, 6.0e-4, 1.0e-3]
        body.ipos, body.iquat = [0.0, 0.0, 0.006], [1.0, 0.0, 0.0, 0.0]
        for kind in RECEPTACLES:
            _add_ring(body, index, kind)
    for number, (name, (kind, size, rgba)) in enumerate(DISTRACTORS.items()):
        body = spec.worldbody.add_body(name=name, pos=[-1.5, 0.3 * number, 0.0])
        body.add_freejoint(name=name)
        body.add_geom(
            name=name,
            type=kind,
            size=size,
            rgba=rgba,
            mass=0.08,
            condim=6,
            friction=[1.2, 0.02, 0.002],
            contype=OBJECT_BITS,
            conaffinity=ARM_BITS | OBJECT_BITS,
        )
    add_patterns(spec)


def _add_ring(body: mujoco.MjsBody, index: int, kind: str) -> None:
    """Add a round floor with a rim of boxes that leans outward."""
    inner, outer, height = RECEPTACLES[kind].size
    names = receptacle_geoms(index, kind)
    common = {
        "rgba": [0.0] * 4,
        "mass": 0.0,
        "condim": 4,
        "friction": [1.0, 0.01, 0.001],
        "contype": OBJECT_BITS,
        "conaffinity": ARM_BITS | OBJECT_BITS,
    }
    body.add_geom(
        name=names[0],
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        pos=[0.0, 0.0, FLOOR_HALF_HEIGHT],
        size=[inner + 0.003, FLOOR_HALF_HEIGHT, 0.0],
        **common,
    )
    lean = np.arctan2(outer - inner, height)
    length = float(np.hypot(outer - inner, height)) / 2.0
    middle, half_width = (inner + outer) / 2.0, 1.08 * np.pi * outer / SEGMENTS
    for part in range(SEGMENTS):
        angle = 2.0 * np.pi * part / SEGMENTS
        turn, tilt = np.zeros(4), np.zeros(4)
        mujoco.mju_axisAngle2Quat(turn, np.array([0.0, 0.0, 1.0]), angle)
        mujoco.mju_axisAngle2Quat(tilt, np.array([0.0, 1.0, 0.0]), lean)
        mujoco.mju_mulQuat(turn, turn.copy(), tilt)
        body.add_geom(
            name=names[part + 1],
            type=mujoco.mjtGeom.mjGEOM_BOX,
            quat=turn,
            pos=[middle * np.cos(angle), middle * np.sin(angle), height / 2.0],
            size=[0.002, half_width, length],
            **common,
        )
