import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.language.rate import RateLimiter


def test_the_first_passes_and_the_newest_of_the_rest_waits_for_a_whole_period():
    limiter = RateLimiter(0.5)
    assert limiter.offer("a", 10.0) == ["a"]
    assert limiter.offer("b", 10.1) == []
    assert limiter.offer("c", 10.2) == []
    assert limiter.pending
    assert limiter.due(10.49) == []
    assert limiter.due(10.5) == ["c"]
    assert limiter.due(11.5) == []
    assert (limiter.offered, limiter.passed, limiter.superseded) == (3, 2, 1)


def test_one_that_comes_when_its_time_has_come_overtakes_the_one_that_waits():
    limiter = RateLimiter(0.5)
    limiter.offer("a", 0.0)
    limiter.offer("b", 0.1)
    assert limiter.offer("c", 0.6) == ["c"]
    assert limiter.due(5.0) == []


def test_restart_forgets_what_waits_and_begins_a_period():
    limiter = RateLimiter(0.5)
    limiter.offer("a", 0.0)
    limiter.offer("b", 0.1)
    limiter.restart(0.2)
    assert not limiter.pending
    assert limiter.due(9.0) == []
    assert limiter.superseded == 1
    limiter.restart(10.0)
    assert limiter.offer("c", 10.4) == []
    assert limiter.due(10.5) == ["c"]


def test_none_is_an_item_too():
    limiter = RateLimiter(1.0)
    assert limiter.offer(None, 0.0) == [None]


def test_a_time_that_is_no_number_lets_nothing_pass():
    limiter = RateLimiter(1.0)
    assert limiter.offer("a", math.nan) == []
    assert limiter.due(0.0) == ["a"]


@pytest.mark.parametrize("period", [0.0, -1.0, math.nan, math.inf])
def test_a_period_that_is_no_duration_is_refused(period):
    with pytest.raises(ValueError, match="expected a positive number of seconds"):
        RateLimiter(period)


STEPS = st.lists(st.tuples(st.sampled_from(["offer", "due", "restart"]), st.integers(0, 40)), max_size=200)


@given(STEPS)
def test_never_faster_than_the_period_never_older_and_nothing_uncounted(steps):
    limiter, now, period = RateLimiter(10.0), 0.0, 10.0
    out, newest, closed_until = [], -1, -math.inf
    for number, (step, wait) in enumerate(steps):
        now += wait / 4  # quarters are exact, so that equality with the period occurs
        if step == "restart":
            limiter.restart(now)
            closed_until = now + period
        passed = limiter.offer(number, now) if step == "offer" else limiter.due(now) if step == "due" else []
        newest = number if step == "offer" else newest
        for item in passed:
            assert item == newest, "only the newest may pass"
            assert now >= closed_until
            closed_until = now + period
            out.append(item)
        assert limiter.offered == limiter.passed + limiter.superseded + limiter.pending
    assert limiter.passed == len(out)
    assert out == sorted(set(out))
    pending = limiter.pending
    assert limiter.due(now + period) == ([newest] if pending else [])
