"""Simplifies collision meshes: writes a robot description with few convex shapes that enclose them, and checks it."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import coal
import numpy as np

from vla_ros.errors import ContractError
from vla_ros.robot.description.convex_cover import Hull, convex_cover, convex_hull, triangle_corners
from vla_ros.robot.description.mesh_paths import PACKAGE, mesh_path
from vla_ros.types import FloatArray

MOST_PARTS, MOST_VERTICES = 2, 32
"""Default maximum number of convex parts per mesh, and of vertices per part."""

LEAST_VERTICES = 8
"""Minimum number of vertices of a part: those of a box."""

MOST_OUTSIDE = 1e-6
"""Largest distance of a mesh point outside the written shapes, m: the files are in single precision."""

_SAMPLES = np.array([[6, 0, 0], [0, 6, 0], [0, 0, 6], [3, 3, 0], [0, 3, 3], [3, 0, 3], [2, 2, 2]]) / 6.0
"""Barycentric coordinates of the points checked on each triangle: corners, edge midpoints, and centroid."""

_BESIDE = 8
"""Number of sample points along each edge of a shape's face for measuring its distance to the mesh."""

_HEADER = 80


@dataclass(frozen=True)
class LinkReport:
    """Result for one collision mesh.

    Attributes:
        link: Name of the link.
        mesh: Name of the mesh file.
        triangles: Number of triangles of the mesh.
        parts: Number of vertices of each convex shape.
        checked: Number of mesh points checked to be inside the written shapes: all of them.
        inflation: Largest distance of a shape from the mesh, m.
        volume: Total volume of the shapes, as a multiple of that of the mesh's convex hull.
    """

    link: str
    mesh: str
    triangles: int
    parts: tuple[int, ...]
    checked: int
    inflation: float
    volume: float

    @property
    def sentence(self) -> str:
        """Result as a sentence for users."""
        shapes = f"{len(self.parts)} convex shape{'s' if len(self.parts) > 1 else ''}"
        return (
            f"{self.link}: {self.triangles} triangles of {self.mesh} are {shapes} of {'+'.join(map(str, self.parts))} "
            f"vertices; up to {1e3 * self.inflation:.1f} mm off the mesh, all {self.checked} checked points inside"
        )


@dataclass(frozen=True)
class Simplified:
    """A simplified description that was written.

    Attributes:
        urdf: The written file.
        reports: One report per mesh.
        files: All written files.
        kept: Number of primitive collision shapes, which are kept unchanged.
    """

    urdf: Path
    reports: tuple[LinkReport, ...]
    files: tuple[Path, ...]
    kept: int

    def remove(self) -> None:
        """Delete the written files."""
        for file in self.files:
            file.unlink(missing_ok=True)


def simplify(urdf: Path, out: Path, most_parts: int = MOST_PARTS, most_vertices: int = MOST_VERTICES) -> Simplified:
    """Write `out`, with the convex shapes of its links beside it, and check them.

    Args:
        urdf: Absolute path of the description with meshes.
        out: File to write, in an existing folder.
        most_parts: Maximum number of convex shapes per mesh.
        most_vertices: Maximum number of vertices per shape, at least `LEAST_VERTICES`.

    Raises:
        ContractError: when the description cannot be read, has no collision mesh, or is `out` itself; when a written
            shape does not enclose its mesh.
    """
    out = out.resolve()
    if out == urdf.resolve():
        raise ContractError(f"{out} is the description itself: choose another file to write")
    try:
        root = ElementTree.fromstring(urdf.read_text(encoding="utf-8"))
    except (ElementTree.ParseError, UnicodeError) as error:
        raise ContractError(f"the robot description {urdf} cannot be read: {error}") from error
    _keep_paths(root, urdf)
    files, reports, kept = [out], [], 0
    for link in root.findall("link"):
        for index, collision in enumerate(link.findall("collision")):
            mesh = collision.find("geometry/mesh")
            if mesh is None:
                kept += 1
                continue
            stem = re.sub(r"\W+", "_", f"{out.stem}_{link.get('name')}_{index}")
            report, written = _replace(link, collision, mesh, urdf, out.with_name(stem), most_parts, most_vertices)
            reports.append(report)
            files += written
    if not reports:
        raise ContractError(f"{urdf.name} has no collision mesh: its {kept} collision shapes are primitive as they are")
    ElementTree.indent(root)
    out.write_text(ElementTree.tostring(root, encoding="unicode") + "\n", encoding="utf-8")
    return Simplified(out, tuple(reports), tuple(files), kept)


def _keep_paths(root: ElementTree.Element, urdf: Path) -> None:
    """Make relative paths of visual meshes absolute, so that they resolve from another folder."""
    for mesh in root.iterfind("link/visual/geometry/mesh"):
        name = mesh.get("filename", "")
        if "://" not in name and not Path(name).is_absolute():
            mesh.set("filename", str((urdf.parent / name).resolve()))


def _replace(
    link: ElementTree.Element,
    collision: ElementTree.Element,
    mesh: ElementTree.Element,
    urdf: Path,
    stem: Path,
    most_parts: int,
    most_vertices: int,
) -> tuple[LinkReport, list[Path]]:
    """Replace a collision mesh of a link by convex shapes."""
    name = mesh.get("filename", "")
    corners = read_corners(mesh_path(name, urdf), _scale(mesh))
    hulls = convex_cover(corners, most_parts, most_vertices)
    place, files = list(link).index(collision), []
    link.remove(collision)
    for part, hull in enumerate(hulls):
        file = stem.with_name(f"{stem.name}_{part}.stl")
        write_stl(hull, file)
        files.append(file)
        shape = ElementTree.Element("collision", name=file.stem)
        if (origin := collision.find("origin")) is not None:
            shape.append(origin)
        geometry = ElementTree.SubElement(shape, "geometry")
        ElementTree.SubElement(geometry, "mesh", filename=file.name)
        link.insert(place + part, shape)
    checked = require_inside(corners, files, str(link.get("name")))
    whole = convex_hull(corners.reshape(-1, 3)).volume
    report = LinkReport(
        str(link.get("name")),
        name.removeprefix(PACKAGE).rpartition("/")[2],
        len(corners),
        tuple(len(hull.vertices) for hull in hulls),
        checked,
        inflation(hulls, corners),
        sum(hull.volume for hull in hulls) / whole,
    )
    return report, files


def _scale(mesh: ElementTree.Element) -> FloatArray:
    words = mesh.get("scale", "1 1 1").split()
    try:
        scale = np.array([float(word) for word in words])
    except ValueError:
        scale = np.zeros(0)
    if scale.shape != (3,) or not (np.isfinite(scale).all() and scale.all()):
        raise ContractError(f'a mesh has scale="{mesh.get("scale")}", expected 3 numbers other than 0')
    return scale


def read_corners(path: Path, scale: FloatArray | None = None) -> FloatArray:
    """Return the corners of the triangles in a mesh file, (t, 3, 3) m.

    Raises:
        ContractError: when it cannot be read, is empty, or holds a value that is not finite.
    """
    try:
        mesh = coal.MeshLoader().load(str(path), np.ones(3) if scale is None else scale)
    except (ValueError, RuntimeError) as error:
        raise ContractError(f"the mesh {path} cannot be read: {error}") from error
    corners = triangle_corners(mesh)
    if not len(corners) or not np.isfinite(corners).all():
        raise ContractError(f"the mesh {path} has {len(corners)} triangles, expected some, with finite corners")
    return corners


def require_inside(corners: FloatArray, files: list[Path], link: str) -> int:
    """Check that all sampled mesh points are inside the convex shapes in `files`, as written; return their number.

    Raises:
        ContractError: when a point is outside of all shapes.
    """
    points = np.einsum("sk,tkd->tsd", _SAMPLES, corners).reshape(-1, 3)
    outside = np.full(len(points), np.inf)
    for file in files:
        outside = np.minimum(outside, convex_hull(read_corners(file).reshape(-1, 3)).excess(points))
    if not (outside <= MOST_OUTSIDE).all():
        raise ContractError(
            f"{link}: the shapes leave out {1e3 * float(outside.max()):.4f} mm of the mesh: a fault here"
        )
    return len(points)


def inflation(hulls: list[Hull], corners: FloatArray) -> float:
    """Return the largest distance of the shapes from a mesh, m, at sample points on their faces."""
    mesh = coal.BVHModelOBBRSS()
    mesh.beginModel(len(corners), 3 * len(corners))
    for triangle in corners:
        mesh.addTriangle(*(np.array(corner) for corner in triangle))
    mesh.endModel()
    ball, request, result = coal.Sphere(1e-9), coal.DistanceRequest(), coal.DistanceResult()
    furthest = 0.0
    for number, hull in enumerate(hulls):
        points = _places_on(hull)
        inner = [other.excess(points) < 0.0 for i, other in enumerate(hulls) if i != number]
        hidden = np.any(inner, axis=0) if inner else np.zeros(len(points), dtype=bool)
        for point in points[~hidden]:
            result.clear()
            at = coal.Transform3s(np.eye(3), np.array(point))
            furthest = max(furthest, coal.distance(mesh, coal.Transform3s.Identity(), ball, at, request, result))
    return float(furthest)


def _places_on(hull: Hull) -> FloatArray:
    """Return sample points on all faces of a hull, (k, 3) m."""
    steps = np.linspace(0.0, 1.0, _BESIDE)
    u, v = np.meshgrid(steps, steps)
    weights = np.stack([u, v, 1.0 - u - v], axis=-1).reshape(-1, 3)
    weights = weights[weights[:, 2] >= -1e-9]
    return np.asarray(np.einsum("sk,tkd->tsd", weights, hull.corners).reshape(-1, 3), dtype=np.float64)


def write_stl(hull: Hull, path: Path) -> None:
    """Write a hull as a binary STL file."""
    facets = np.zeros(len(hull.triangles), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
    a, b, c = np.moveaxis(hull.corners, 1, 0)
    normals = np.cross(b - a, c - a)
    facets["normal"] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    facets["corners"] = hull.corners
    path.write_bytes(b"convex".ljust(_HEADER) + struct.pack("<I", len(facets)) + facets.tobytes())
