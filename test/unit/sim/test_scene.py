"""The scene is decided by its seed, and its objects never overlap."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.envs.tabletop.objects import COLOURS, REACH, SHAPES, SPACING, sample_scene
from vla_ros.errors import SimulationError


def test_one_seed_one_scene() -> None:
    assert sample_scene(np.random.default_rng(7)) == sample_scene(np.random.default_rng(7))
    assert sample_scene(np.random.default_rng(7)) != sample_scene(np.random.default_rng(8))


@pytest.mark.parametrize("seed", range(50))
def test_objects_differ_and_keep_their_distance(seed: int) -> None:
    objects = sample_scene(np.random.default_rng(seed))
    assert len({item.name for item in objects}) == len(objects) == 3
    places = np.array([item.position for item in objects])
    for i in range(3):
        for j in range(i):
            assert np.linalg.norm(places[i] - places[j]) >= SPACING
    assert (places >= [REACH[0][0], REACH[1][0]]).all() and (places <= [REACH[0][1], REACH[1][1]]).all()


def test_a_required_object_is_there() -> None:
    for colour in COLOURS:
        for shape in SHAPES:
            objects = sample_scene(np.random.default_rng(3), required=(colour, shape))
            assert f"{colour} {shape}" in [item.name for item in objects]


def test_too_many_objects_are_refused() -> None:
    with pytest.raises(SimulationError, match="do not fit"):
        sample_scene(np.random.default_rng(0), count=12)
