"""The tabletop judge, case by case: what looks like success and is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vla_ros.envs.tabletop.success import PUSH_DISTANCE, Rest, judge_push, judge_rest

LIES = Rest(supported=True, touched=False, aside=0.01, above=0.001, speed=0.001)


def _rest(**changes: object) -> bool:
    return judge_rest(replace(LIES, **changes), 0.05, "red cube", "blue bowl", held=False).success


def test_a_thing_that_lies_there_is_done() -> None:
    assert _rest()


@pytest.mark.parametrize(
    "change",
    [
        {"supported": False},
        {"touched": True},
        {"aside": 0.051},
        {"above": 0.03},
        {"above": -0.02},
        {"speed": 0.06},
        {"speed": float("nan")},
        {"aside": float("nan")},
        {"above": float("nan")},
    ],
    ids=str,
)
def test_held_leaning_falling_or_beside_is_not(change: dict[str, object]) -> None:
    assert not _rest(**change)


def test_a_push_is_far_straight_and_on_the_table() -> None:
    def push(way: float, aside: float = 0.0, rise: float = 0.0) -> bool:
        return judge_push(way, aside, rise, "red cube", "left", "").success

    assert push(PUSH_DISTANCE) and push(0.1, aside=0.05)
    assert not push(PUSH_DISTANCE - 1e-6)
    assert not push(-0.1)
    assert not push(0.1, aside=0.051)
    assert not push(0.1, rise=0.031)
    assert not push(float("nan"))
