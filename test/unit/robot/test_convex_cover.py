"""Outer polytopes against the points that they must hold, and cuts against areas and volumes known in advance."""

from __future__ import annotations

import coal
import numpy as np
import pytest

from vla_ros.robot.description.convex_cover import MARGIN, as_convex, clipped, convex_cover, convex_hull, outer_hull

FACES = [
    (0, 1, 3),
    (0, 3, 2),
    (4, 6, 7),
    (4, 7, 5),
    (0, 4, 5),
    (0, 5, 1),
    (2, 3, 7),
    (2, 7, 6),
    (0, 2, 6),
    (0, 6, 4),
    (1, 5, 7),
    (1, 7, 3),
]


def box(low, high):
    """Triangles (12, 3, 3) of a box."""
    corners = np.array([[(low, high)[i >> axis & 1][axis] for axis in range(3)] for i in range(8)], dtype=np.float64)
    return corners[np.array(FACES)]


def elbow():
    """An L of two bars of 0.4 m: its hull is far larger than it is."""
    return np.concatenate([box((0, 0, 0), (0.1, 0.1, 0.4)), box((0, 0, 0), (0.4, 0.1, 0.1))])


def mesh_of(corners):
    mesh = coal.BVHModelOBBRSS()
    mesh.beginModel(len(corners), 3 * len(corners))
    for triangle in corners:
        mesh.addTriangle(*(np.array(corner) for corner in triangle))
    mesh.endModel()
    return mesh


@pytest.mark.parametrize("most", [8, 16, 40])
@pytest.mark.parametrize("seed", range(3))
def test_an_outer_hull_holds_every_point_with_few_vertices(most, seed):
    points = np.random.default_rng(seed).normal(size=(400, 3)) * [0.3, 0.1, 0.05]
    hull = outer_hull(points, most)
    assert len(hull.vertices) <= most
    assert (hull.excess(points) <= (-0.5 * MARGIN if len(convex_hull(points).vertices) > most else 1e-9)).all()
    assert hull.volume >= convex_hull(points).volume


def test_more_vertices_stand_off_less():
    points = np.random.default_rng(0).normal(size=(400, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    volumes = [outer_hull(points, most).volume for most in (8, 16, 32, 64)]
    assert volumes == sorted(volumes, reverse=True)
    assert volumes[-1] < 1.15 * convex_hull(points).volume


def test_a_box_stays_a_box():
    hull = outer_hull(box((0, 0, 0), (0.1, 0.2, 0.3)).reshape(-1, 3), 32)
    assert len(hull.vertices) == 8
    assert hull.volume == pytest.approx(0.006, rel=1e-3)


def test_planes_look_outward():
    hull = convex_hull(box((-1, -1, -1), (1, 1, 1)).reshape(-1, 3))
    normals, offsets = hull.planes
    assert (offsets > 0.0).all() and np.allclose(np.abs(normals).max(axis=1), 1.0)
    np.testing.assert_allclose(hull.excess(np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])), [-1.0, 1.0])


@pytest.mark.parametrize("place", [0.05, 0.1, 0.25, 0.399])
def test_a_cut_loses_no_area(place):
    def area(corners):
        return (
            0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
        )

    normal = np.array([1.0, 2.0, 3.0]) / np.sqrt(14.0)
    below, above = clipped(elbow(), normal, place), clipped(elbow(), -normal, -place)
    assert area(below) + area(above) == pytest.approx(area(elbow()), rel=1e-9)
    assert (below @ normal <= place + 1e-12).all() and (above @ normal >= place - 1e-12).all()


def test_an_elbow_is_covered_by_its_two_bars():
    hulls = convex_cover(elbow(), 2, 32)
    assert len(hulls) == 2
    points = elbow().reshape(-1, 3)
    assert (np.min([hull.excess(points) for hull in hulls], axis=0) <= 1e-12).all()
    assert sum(hull.volume for hull in hulls) < 0.75 * convex_hull(points).volume
    assert len(convex_cover(box((0, 0, 0), (1, 1, 1)), 4, 32)) == 1  # nothing is saved


@pytest.mark.parametrize(
    "points",
    [
        [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)],  # flat
        [(0, 0, 0), (1, 1, 1), (2, 2, 2)],  # a line
        [(0.0, 0.0, 0.0)] * 3,  # a point
    ],
)
def test_what_is_flat_gets_a_thickness(points):
    """Qhull would end the process."""
    points = np.array(points, dtype=np.float64)
    hull = convex_hull(points)
    assert hull.volume > 0.0
    assert (hull.excess(points) <= 1e-9).all()


def test_a_convex_mesh_is_a_convex_shape_and_an_elbow_is_none():
    cube = as_convex(mesh_of(box((0, 0, 0), (1, 1, 1))))
    assert isinstance(cube, coal.Convex) and cube.num_points == 8
    assert isinstance(as_convex(mesh_of(elbow())), coal.BVHModelBase)
    sphere = coal.Sphere(0.1)
    assert as_convex(sphere) is sphere
