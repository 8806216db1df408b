"""Obstacles of every shape: read line by line, and as far away as geometry says."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ContractError
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.motion.obstacles import Obstacle, Shape, parse_obstacles

BOX = {"shape": "box", "size": [0.1, 0.2, 0.3], "position": [1.0, 2.0, 3.0], "rotation": [0.0, 0.0, 0.0]}
SPHERE = {"shape": "sphere", "radius": 0.1, "position": [1.0, 2.0, 3.0]}
POST = {"shape": "cylinder", "radius": 0.1, "length": 0.4, "position": [1.0, 2.0, 3.0], "rotation": [0.0, 0.0, 0.0]}
PILL = POST | {"shape": "capsule"}


def test_every_shape_says_what_it_says():
    box, sphere, post, pill = parse_obstacles({"a": BOX, "b": SPHERE, "c": POST, "d": PILL}, "here")
    assert [one.shape for one in (box, sphere, post, pill)] == list(Shape)
    np.testing.assert_array_equal(box.dimensions, [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(sphere.dimensions, [0.1])
    np.testing.assert_array_equal(post.dimensions, [0.1, 0.4])
    np.testing.assert_array_equal(pill.position, [1.0, 2.0, 3.0])
    assert parse_obstacles(None, "here") == ()


@pytest.mark.parametrize(
    "lines",
    [
        {},
        [],
        "box",
        {"shape": "cone"},
        BOX | {"colour": 1},
        *({name: value for name, value in BOX.items() if name != missing} for missing in BOX),
        *({name: value for name, value in PILL.items() if name != missing} for missing in PILL),
        BOX | {"size": [0.1, 0.2]},
        BOX | {"size": [0.1, 0.2, 0.0]},
        BOX | {"size": 0.1},
        BOX | {"size": [1, 2, "3"]},
        BOX | {"position": [0.0, 0.0, float("nan")]},
        BOX | {"rotation": [True, 0.0, 0.0]},
        SPHERE | {"radius": -0.1},
        SPHERE | {"radius": [0.1]},
        SPHERE | {"radius": True},
        SPHERE | {"rotation": [0, 0, 0]},
    ],
)
def test_a_line_that_is_missing_or_wrong_is_named(lines):
    with pytest.raises(ContractError, match=r"here\.post"):
        parse_obstacles({"post": lines}, "here")


def distance(contract, parameters, obstacle):
    """Smallest distance of the arm at home to an obstacle, m."""
    model = CollisionModel(contract, parameters.collision, (obstacle,))
    chosen = [pair.name.endswith(obstacle.name) for pair in model.pairs]
    return float(model.distances(contract.joints.home)[chosen].min())


def at(shape, dimensions, position, rotation=(0.0, 0.0, 0.0)):
    return Obstacle("post", shape, np.array(dimensions), np.array(position), np.array(rotation))


def test_shapes_that_touch_the_same_plane_are_equally_far(contract, parameters):
    """Each reaches from x = 3 m up to 2.9 m: a box and a sphere head on, a cylinder and a capsule lying along x.

    The nearest point of the arm is not level with all of them; a metre off, that is worth a few millimetres.
    """
    height = 0.3
    turned = (0.0, np.pi / 2.0, 0.0)
    shapes = [
        at(Shape.BOX, (0.2, 1.0, 1.0), (3.0, 0.0, height)),
        at(Shape.SPHERE, (0.5,), (3.4, 0.0, height)),
        at(Shape.CYLINDER, (0.5, 0.2), (3.0, 0.0, height), turned),
        at(Shape.CAPSULE, (0.1, 1.0), (3.0, 0.0, height)),
    ]
    box, *others = (distance(contract, parameters, shape) for shape in shapes)
    assert 1.5 < box < 2.9
    np.testing.assert_allclose(others, box, atol=0.02)


def test_a_turn_of_a_box_counts(contract, parameters):
    """A plank 0.02 m thick and 2 m long, high above the arm: level, and upright, its lower end 1 m below its centre."""
    level = distance(contract, parameters, at(Shape.BOX, (2.0, 0.2, 0.02), (0.0, 0.0, 2.5)))
    upright = distance(contract, parameters, at(Shape.BOX, (2.0, 0.2, 0.02), (0.0, 0.0, 2.5), (0.0, np.pi / 2.0, 0.0)))
    assert level - upright == pytest.approx(1.0 - 0.01, abs=0.02)
