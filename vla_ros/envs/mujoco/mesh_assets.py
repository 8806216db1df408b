"""Converts collision meshes of a robot description to formats that MuJoCo reads.

MuJoCo reads OBJ and binary STL, rejects meshes that are flat or have too many faces, and identifies a mesh by its file
name alone. Other formats (COLLADA, ASCII STL, PLY) are loaded by Coal, as in the safety layer, and passed on as binary
STL from memory.
"""

from __future__ import annotations

import struct
from pathlib import Path
from xml.etree import ElementTree

import coal
import numpy as np

from vla_ros.errors import SimulationError
from vla_ros.robot.description.convex_cover import convex_hull, triangle_corners
from vla_ros.robot.description.mesh_paths import mesh_path
from vla_ros.types import FloatArray

MAX_FACES = 200_000
"""Largest number of faces that MuJoCo accepts; beyond it the convex hull is used, as in MuJoCo's own collisions."""

MIN_THICKNESS = 1e-4
"""Thinnest mesh to which MuJoCo assigns a volume, m; a thinner one is replaced by its hull, made this thick."""

_HEADER, _FACET = 80, 50
"""Sizes in a binary STL, bytes: the header before the facet count, and each facet."""


def take_meshes(root: ElementTree.Element, urdf: Path) -> dict[str, bytes]:
    """Give every collision mesh a unique name and return the file contents by those names.

    Visual shapes are removed: the workcell renders the collision shapes.

    Args:
        root: The description, modified in place.
        urdf: Its file, absolute; meshes are resolved as in the safety layer.

    Raises:
        ContractError: when a mesh file is missing.
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
    """Return the mesh bytes for MuJoCo, their file suffix, and whether `scale` (3,) is already applied."""
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
    if np.prod(scale) < 0.0:  # mirrored: the order of the corners defines the outside
        corners = corners[:, ::-1]
    return _binary_stl(corners), ".stl", True


def _thickness(corners: FloatArray) -> float:
    """Return the smallest extent, m, of triangles (t, 3, 3) m along their principal axes."""
    points = corners.reshape(-1, 3)
    points = points - points.mean(axis=0)
    axes = np.linalg.eigh(points.T @ points)[1]
    return float(np.ptp(points @ axes, axis=0).min())


def _is_binary_stl(raw: bytes) -> bool:
    """Detect binary STL by file length: the beginning can be ambiguous between ASCII and binary."""
    if len(raw) < _HEADER + 4:
        return False
    (count,) = struct.unpack_from("<I", raw, _HEADER)
    return len(raw) == _HEADER + 4 + int(count) * _FACET


def _binary_stl(corners: FloatArray) -> bytes:
    facets = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
    facets["corners"] = corners
    return b"".ljust(_HEADER) + struct.pack("<I", len(facets)) + facets.tobytes()
