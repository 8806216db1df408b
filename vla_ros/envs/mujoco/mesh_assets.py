"""Collision meshes of a robot description in a form that MuJoCo reads.

MuJoCo reads OBJ and binary STL, refuses meshes that are flat or have too many faces, and knows a mesh by its file name
alone. What it cannot read (COLLADA, STL as text, PLY) is loaded as the safety layer loads it, by Coal, and handed over
as binary STL from memory.
"""

from __future__ import annotations

import struct
from pathlib import Path
from xml.etree import ElementTree

import coal
import numpy as np

from vla_ros.errors import SimulationError
from vla_ros.robot.convex_cover import convex_hull, triangle_corners
from vla_ros.robot.mesh_paths import mesh_path
from vla_ros.types import FloatArray

MAX_FACES = 200_000
"""MuJoCo refuses a mesh of more; it collides by the convex hull in any case."""

MIN_THICKNESS = 1e-4
"""A mesh thinner than this, m, has no volume for MuJoCo: its hull, made this thick, takes its place."""

_HEADER, _FACET = 80, 50
"""Bytes of a binary STL before its count of facets, and of each facet."""


def take_meshes(root: ElementTree.Element, urdf: Path) -> dict[str, bytes]:
    """Name every collision mesh of a description by a name of its own and return the files' contents by those names.

    Visual shapes are removed: the workcell shows what collides.

    Args:
        root: The description, changed in place.
        urdf: Its file, absolute; meshes are found as for the safety layer.

    Raises:
        ContractError: when a mesh file is not there.
        SimulationError: when one cannot be read.
    """
    for link in root.findall("link"):
        for visual in link.findall("visual"):
            link.remove(visual)
    assets: dict[str, bytes] = {}
    for number, mesh in enumerate(root.iterfind("link/collision/geometry/mesh")):
        path = mesh_path(mesh.get("filename", ""), urdf)
        content, suffix, scaled = _content(path, _scale(mesh, urdf))
        name = f"mesh_{number}{suffix}"
        assets[name] = content
        mesh.set("filename", name)
        if scaled:
            mesh.set("scale", "1 1 1")
    return assets


def _scale(mesh: ElementTree.Element, urdf: Path) -> FloatArray:
    text = mesh.get("scale", "1 1 1")
    try:
        scale = np.array([float(word) for word in text.split()])
    except ValueError:
        scale = np.empty(0)
    if scale.shape != (3,) or not np.isfinite(scale).all() or not scale.all():
        raise SimulationError(f'{urdf.name}: <mesh scale="{text}">, expected three numbers other than 0')
    return scale


def _content(path: Path, scale: FloatArray) -> tuple[bytes, str, bool]:
    """Return the bytes for MuJoCo, their file suffix, and whether `scale` (3,) is in them."""
    try:
        model = coal.MeshLoader().load(str(path), np.ones(3))
        corners = triangle_corners(model) * scale
    except (ValueError, RuntimeError, IndexError) as error:
        raise SimulationError(f"the mesh {path} cannot be read: {error}") from error
    if not len(corners) or not np.isfinite(corners).all():
        raise SimulationError(f"the mesh {path} has {len(corners)} triangles, expected some, of finite vertices")
    if len(corners) > MAX_FACES or _thickness(corners) < MIN_THICKNESS:
        return _binary_stl(convex_hull(corners.reshape(-1, 3)).corners), ".stl", True
    raw, suffix = path.read_bytes(), path.suffix.lower()
    if suffix == ".obj" or (suffix == ".stl" and _is_binary_stl(raw)):
        return raw, suffix, False
    if np.prod(scale) < 0.0:  # mirrored: the order of the corners says which side is outside
        corners = corners[:, ::-1]
    return _binary_stl(corners), ".stl", True


def _thickness(corners: FloatArray) -> float:
    """Return the smallest extent, m, of triangles (t, 3, 3) m along their principal axes."""
    points = corners.reshape(-1, 3)
    points = points - points.mean(axis=0)
    axes = np.linalg.eigh(points.T @ points)[1]
    return float(np.ptp(points @ axes, axis=0).min())


def _is_binary_stl(raw: bytes) -> bool:
    """Tell by its length: STL as text may begin like a binary one, and the other way round."""
    if len(raw) < _HEADER + 4:
        return False
    (count,) = struct.unpack_from("<I", raw, _HEADER)
    return len(raw) == _HEADER + 4 + int(count) * _FACET


def _binary_stl(corners: FloatArray) -> bytes:
    facets = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
    facets["corners"] = corners
    return b"".ljust(_HEADER) + struct.pack("<I", len(facets)) + facets.tobytes()
