"""The gate lets at most one value an interval pass, always the newest, and loses none uncounted."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.language.rate_limit import NewestWins


def test_the_newest_waits_and_the_others_are_counted() -> None:
    gate: NewestWins[str] = NewestWins(1.0)
    assert gate.offer("a", 10.0) == "a"
    assert gate.offer("b", 10.1) is None
    assert gate.offer("c", 10.2) is None
    assert gate.replaced == 1
    assert gate.take(10.9) is None
    assert gate.take(11.0) == "c"
    assert gate.take(99.0) is None


def test_an_interruption_drops_what_waits_and_keeps_the_gate_shut() -> None:
    gate: NewestWins[str] = NewestWins(1.0)
    gate.offer("a", 0.0)
    gate.offer("b", 0.5)
    gate.interrupt(0.6)
    assert gate.replaced == 1
    assert gate.take(5.0) is None
    gate.interrupt(6.0)
    assert gate.offer("c", 6.9) is None
    assert gate.take(7.0) == "c"


@pytest.mark.parametrize("interval", [-1.0, math.nan, math.inf])
def test_an_interval_that_is_none_is_refused(interval: float) -> None:
    with pytest.raises(ValueError, match="interval"):
        NewestWins(interval)


@given(st.lists(st.tuples(st.floats(0.0, 0.7), st.booleans()), max_size=60), st.floats(0.0, 1.0))
def test_nothing_is_lost_uncounted_and_nothing_passes_too_early(steps, interval) -> None:
    gate: NewestWins[int] = NewestWins(interval)
    now, passed, offered = 0.0, [], 0
    for pause, offers in steps:
        now += pause
        out = gate.take(now)
        if out is None and offers:
            out, offered = gate.offer(offered, now), offered + 1
        if out is not None:
            passed.append((now, out))
    waiting = gate.take(math.inf)
    assert len(passed) + (waiting is not None) + gate.replaced == offered
    assert all(later[0] - earlier[0] >= interval - 1e-9 for earlier, later in pairwise(passed))
    assert [value for _, value in passed] == sorted(value for _, value in passed)
