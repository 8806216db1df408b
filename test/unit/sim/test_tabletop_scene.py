"""Tabletop scenes: decided by their seed, apart, and never a held-out pair that was not asked for."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.envs.tabletop.scene import (
    COLOURS,
    DIRECTION_VECTORS,
    GAP,
    HELD_OUT_PAIRS,
    MAX_THINGS,
    PUSH_WAY,
    REACH,
    RECEPTACLES,
    SHAPES,
    place_apart,
    radius,
    sample_command,
    sample_tabletop,
)
from vla_ros.errors import SimulationError
from vla_ros.language.commands import Act
from vla_ros.language.lexicon import COLOURS as COLOUR_WORDS
from vla_ros.language.lexicon import OBJECTS
from vla_ros.language.lexicon import RECEPTACLES as RECEPTACLE_WORDS


def _scene(seed: int, act: Act | None = None, held_out: bool = False):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    return sample_tabletop(rng, sample_command(rng, act, held_out))


def test_there_are_as_many_kinds_as_asked_for_and_words_for_each() -> None:
    assert len(COLOURS) >= 6 and len(SHAPES) >= 4 and MAX_THINGS == 5
    assert list(COLOURS) == list(COLOUR_WORDS)
    assert set(SHAPES) == set(OBJECTS) and set(RECEPTACLES) == set(RECEPTACLE_WORDS)


def test_one_seed_one_scene() -> None:
    assert _scene(7) == _scene(7) and _scene(7) != _scene(8)


@pytest.mark.parametrize("seed", range(100))
def test_things_differ_keep_apart_and_lie_within_reach(seed: int) -> None:
    things = _scene(seed, held_out=seed % 3 == 0).things
    assert 2 <= len(things) <= MAX_THINGS and len({item.name for item in things}) == len(things)
    for i, one in enumerate(things):
        assert REACH[0][0] <= one.position[0] <= REACH[0][1] and REACH[1][0] <= one.position[1] <= REACH[1][1]
        for other in things[:i]:
            gap = np.linalg.norm(np.subtract(one.position, other.position)) - radius(one.shape) - radius(other.shape)
            assert gap >= GAP - 1e-9


@pytest.mark.parametrize("seed", range(60))
def test_a_held_out_pair_is_shown_only_where_it_is_asked_for(seed: int) -> None:
    scene = _scene(seed)
    assert not {(item.colour, item.shape) for item in scene.things} & HELD_OUT_PAIRS
    unseen = _scene(seed, held_out=True)
    asked = {unseen.command.thing, unseen.command.goal}
    assert unseen.command.thing in HELD_OUT_PAIRS
    assert {(item.colour, item.shape) for item in unseen.things} & HELD_OUT_PAIRS <= asked


def test_each_colour_and_each_shape_is_seen_with_others_though_one_pair_is_held_out() -> None:
    for colour in COLOURS:
        assert sum((colour, shape) in HELD_OUT_PAIRS for shape in SHAPES) == 1
    for shape in SHAPES:
        assert sum((colour, shape) not in HELD_OUT_PAIRS for colour in COLOURS) >= 4


@pytest.mark.parametrize("seed", range(40))
def test_a_pushed_thing_has_a_free_way(seed: int) -> None:
    scene = _scene(seed, Act.PUSH)
    start = np.array(scene.objects[0].position)
    way = np.array(DIRECTION_VECTORS[scene.command.direction])
    for share in np.linspace(0.0, PUSH_WAY - 0.03, 8):
        for other in scene.things[1:]:
            free = np.linalg.norm(start + share * way - other.position) - radius(scene.objects[0].shape)
            assert free >= radius(other.shape) + 0.9 * GAP


def test_many_scenes_of_every_task_fit() -> None:
    counts = [len(_scene(seed, act).things) for act in Act for seed in range(200)]
    assert set(counts) == {2, 3, 4, 5}


def test_too_much_is_refused() -> None:
    with pytest.raises(SimulationError, match="do not fit"):
        place_apart(np.random.default_rng(0), ["bowl"] * 12)
