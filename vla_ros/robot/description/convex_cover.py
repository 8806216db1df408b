"""Covers a mesh with a few convex polytopes of few vertices each; together they contain the whole mesh.

The mesh is cut by planes where that saves most volume, and each part gets an outer approximation of its convex hull:
half spaces are added where the polytope protrudes most. Every plane supports the hull, so nothing is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import coal
import numpy as np
from numpy.typing import NDArray

from vla_ros.types import FloatArray

IntArray = NDArray[np.int64]
"""Index array."""

MARGIN = 1e-5
"""Outward offset of every plane, m: merges nearly coincident vertices and covers rounding to single precision."""

FLAT = 1e-4
"""Minimum thickness of a part, m: thinner ones are thickened, since a hull needs an interior."""

GOOD_ENOUGH = 5e-4
"""Tolerated excess of a polytope over the hull, m; below it no plane is added."""

LEAST_SAVING = 0.05
"""Minimum volume that a cut must save, as a fraction of the hull's volume."""

MOST_CONVEX_VERTICES = 512
"""Maximum number of vertices of a mesh that is tested for convexity."""

SAME_VOLUME = 1e-3
"""Largest relative difference between a mesh's volume and its hull's for it to count as convex."""

_CUTS = (0.2, 0.35, 0.5, 0.65, 0.8)
"""Candidate cut positions of a part, as fractions of its extent."""

_SAME = 1e-9
"""Rounding of polytope vertices for sorting, m; vertices nearer than 1000 times this are merged."""


@dataclass(frozen=True)
class Hull:
    """Convex polytope: `vertices` (v, 3) m and `triangles` (t, 3), counterclockwise seen from outside."""

    vertices: FloatArray
    triangles: IntArray

    @property
    def corners(self) -> FloatArray:
        """Corners of each triangle, (t, 3, 3) m."""
        return np.asarray(self.vertices[self.triangles], dtype=np.float64)

    @property
    def planes(self) -> tuple[FloatArray, FloatArray]:
        """Outward unit normals (t, 3) and offsets (t,) m: a point x is inside where `normals @ x <= offsets`."""
        a, b, c = np.moveaxis(self.corners, 1, 0)
        normals = np.cross(b - a, c - a)
        sizes = np.linalg.norm(normals, axis=1)
        real = sizes > 1e-4 * sizes.max()  # a sliver has no well-defined normal, and lies between faces that have one
        normals = normals[real] / sizes[real, None]
        return normals, np.einsum("ij,ij->i", normals, a[real])

    @property
    def volume(self) -> float:
        """Volume, m^3."""
        a, b, c = np.moveaxis(self.corners - self.vertices[0], 1, 0)
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6.0)

    def excess(self, points: FloatArray) -> FloatArray:
        """Return the largest signed distance of each of `points` (k, 3) m from the planes, (k,) m; negative inside."""
        normals, offsets = self.planes
        return np.asarray((points @ normals.T - offsets).max(axis=1), dtype=np.float64)

    def shape(self) -> coal.Convex:
        """Return the polytope as a Coal shape."""
        return _quickhull(self.vertices)


def convex_hull(points: FloatArray) -> Hull:
    """Return the convex hull of `points` (k, 3) m; flat sets are thickened to `FLAT` m."""
    points = np.unique(np.asarray(points, dtype=np.float64), axis=0)
    axes, extents = _axes(points)
    for axis in axes[extents < FLAT]:
        points = np.vstack([points - 0.5 * FLAT * axis, points + 0.5 * FLAT * axis])
    return _hull_of(_quickhull(points))


def triangle_corners(mesh: coal.BVHModelBase) -> FloatArray:
    """Return the corners of a mesh's triangles, (t, 3, 3) m."""
    faces = (mesh.tri_indices(i) for i in range(mesh.num_tris))
    triangles = np.array([[face[0], face[1], face[2]] for face in faces], dtype=np.int64).reshape(-1, 3)
    return np.asarray(mesh.vertices(), dtype=np.float64)[triangles]


def as_convex(shape: coal.CollisionGeometry) -> coal.CollisionGeometry:
    """Convert a convex mesh with few vertices to a convex shape, whose distance queries are a hundred times faster.

    Any other shape is returned unchanged.
    """
    if not isinstance(shape, coal.BVHModelBase) or not 4 <= shape.num_vertices <= MOST_CONVEX_VERTICES:
        return shape
    vertices = np.ascontiguousarray(shape.vertices(), dtype=np.float64)
    convex = _convex(vertices.tobytes(), abs(float(shape.computeVolume())))
    return shape if convex is None else convex


@lru_cache(maxsize=512)
def _convex(vertices: bytes, volume: float) -> coal.Convex | None:
    """Return the hull of vertices (k, 3) float64, m, if its volume is `volume`, m^3; else None."""
    hull = convex_hull(np.frombuffer(vertices).reshape(-1, 3))
    return hull.shape() if abs(hull.volume - volume) <= SAME_VOLUME * hull.volume else None


def outer_hull(points: FloatArray, most_vertices: int) -> Hull:
    """Return a polytope of at most `most_vertices` (8 or more) vertices that contains `points` (k, 3) m.

    Greedy: the next half space cuts off the vertex that protrudes most.
    """
    hull = convex_hull(points)
    if len(hull.vertices) <= most_vertices:
        return hull
    axes, _ = _axes(hull.vertices)
    shape, normals = hull.shape(), np.vstack([axes, -axes])
    best = _polytope(hull, normals)
    while True:
        place, normal = _furthest(best, shape)
        if normal is None or place <= GOOD_ENOUGH:
            return best
        normals = np.vstack([normals, normal])
        finer = _polytope(hull, normals)
        if len(finer.vertices) > most_vertices:
            return best
        best = finer


def convex_cover(corners: FloatArray, most_parts: int, most_vertices: int) -> list[Hull]:
    """Return at most `most_parts` polytopes of at most `most_vertices` vertices each that together contain a mesh.

    Args:
        corners: Corners of the mesh's triangles, (t, 3, 3) m.
        most_parts: Maximum number of polytopes.
        most_vertices: Maximum number of vertices of each, 8 or more.
    """
    parts = [np.asarray(corners, dtype=np.float64)]
    whole = convex_hull(parts[0].reshape(-1, 3)).volume
    cuts = [_best_cut(parts[0])]
    while len(parts) < most_parts:
        best = int(np.argmax([saving for saving, *_ in cuts]))
        saving, one, other = cuts[best]
        if saving < LEAST_SAVING * whole:
            break
        parts[best : best + 1] = [one, other]
        cuts[best : best + 1] = [_best_cut(one), _best_cut(other)]
    return [outer_hull(part.reshape(-1, 3), most_vertices) for part in parts]


def _best_cut(corners: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Return the volume of hulls, m^3, that the best plane cut saves, and the two parts of the mesh."""
    points = corners.reshape(-1, 3)
    volume = convex_hull(points).volume
    best = -np.inf, corners, corners
    for axis in _axes(points)[0]:
        along = points @ axis
        for fraction in _CUTS:
            place = float(along.min() + fraction * np.ptp(along))
            below, above = clipped(corners, axis, place), clipped(corners, -axis, -place)
            if not (len(below) and len(above)):
                continue
            saving = volume - sum(convex_hull(side.reshape(-1, 3)).volume for side in (below, above))
            if saving > best[0]:
                best = saving, below, above
    return best


def clipped(corners: FloatArray, normal: FloatArray, offset: float) -> FloatArray:
    """Return triangles (s, 3, 3) m that cover the part of triangles (t, 3, 3) m with `normal @ x <= offset`."""
    heights = corners @ normal - offset
    inside = heights <= 0.0
    count = inside.sum(axis=1)
    kept = [corners[count == 3]]
    for alone in (1, 2):
        chosen = count == alone
        # Rotate each triangle's corners so that the one alone on its side comes first.
        first = np.argmax(inside[chosen] == (alone == 1), axis=1)
        turn = (first[:, None] + np.arange(3)) % 3
        rows = np.arange(len(turn))[:, None]
        turned, high = corners[chosen][rows, turn], heights[chosen][rows, turn]
        a, b, c = turned[:, 0], turned[:, 1], turned[:, 2]
        ab = a + (high[:, 0] / (high[:, 0] - high[:, 1]))[:, None] * (b - a)
        ac = a + (high[:, 0] / (high[:, 0] - high[:, 2]))[:, None] * (c - a)
        pieces = [(a, ab, ac)] if alone == 1 else [(ab, b, c), (ab, c, ac)]
        kept += [np.stack(piece, axis=1) for piece in pieces]
    return np.concatenate(kept)


def _axes(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the principal axes of points (k, 3) as rows (3, 3), and the extent of the points along each, (3,) m."""
    spread = points - points.mean(axis=0)
    axes = np.linalg.eigh(spread.T @ spread)[1].T[::-1]
    return axes, np.ptp(points @ axes.T, axis=0)


def _quickhull(points: FloatArray) -> coal.Convex:
    """Return Coal's convex hull of points (k, 3), which must not be flat: Qhull would end the process."""
    vector = coal.StdVec_Vec3s()
    vector.extend([np.array(point) for point in points])
    return coal.Convex.convexHull(vector, True, "Qt")


def _hull_of(shape: coal.Convex) -> Hull:
    vertices = np.array(shape.points(), dtype=np.float64)
    faces = (shape.polygons(i) for i in range(shape.num_polygons))
    triangles = np.array([[face[0], face[1], face[2]] for face in faces])
    a, b, c = np.moveaxis(vertices[triangles], 1, 0)
    outward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a - vertices.mean(axis=0)) >= 0.0
    triangles[~outward] = triangles[~outward][:, ::-1]
    return Hull(vertices, triangles)


def _polytope(hull: Hull, normals: FloatArray) -> Hull:
    """Return the polytope bounded by planes with `normals` (k, 3) around a hull, each offset by `MARGIN` m.

    Its vertices are the facets of the dual hull: n x <= d around the center corresponds to the point n / d.
    """
    center = hull.vertices.mean(axis=0)
    offsets = ((hull.vertices - center) @ normals.T).max(axis=0) + MARGIN
    dual = _hull_of(_quickhull(normals / offsets[:, None]))
    facets, heights = dual.planes
    vertices = center + facets / heights[:, None]
    order = np.lexsort(np.round(vertices / _SAME).T)
    vertices = vertices[order]
    apart = np.linalg.norm(np.diff(vertices, axis=0), axis=1) > 1e3 * _SAME
    return _hull_of(_quickhull(vertices[np.concatenate([[True], apart])]))


def _furthest(polytope: Hull, shape: coal.Convex) -> tuple[float, FloatArray | None]:
    """Return the largest distance of a vertex from a hull's shape, m, and its direction, (3,)."""
    furthest, direction = 0.0, None
    ball, request, result = coal.Sphere(1e-9), coal.DistanceRequest(), coal.DistanceResult()
    for vertex in polytope.vertices:
        result.clear()
        distance = coal.distance(shape, coal.Transform3s.Identity(), ball, _at(vertex), request, result)
        if distance > furthest:
            way = vertex - np.asarray(result.getNearestPoint1())
            furthest, direction = float(distance), way / np.linalg.norm(way)
    return furthest, direction


def _at(place: FloatArray) -> coal.Transform3s:
    return coal.Transform3s(np.eye(3), np.array(place))
