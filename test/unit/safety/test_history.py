import pytest

from vla_ros.safety.measurement.history import History


@pytest.mark.parametrize(
    ("stamp", "found"),
    [(1.0, "a"), (1.04, "a"), (1.06, "b"), (1.1, "b"), (1.14, "b"), (1.151, None), (0.949, None), (float("nan"), None)],
)
def test_the_nearest_within_the_tolerance_is_found(stamp, found):
    history = History(5)
    history.add(1.0, "a")
    history.add(1.1, "b")
    assert history.nearest(stamp, 0.05) == found


def test_only_the_last_ones_are_kept():
    history = History(3)
    for i in range(10):
        history.add(float(i), i)
    assert [history.nearest(float(i), 0.1) for i in range(10)] == [None] * 7 + [7, 8, 9]


def test_a_clock_that_goes_back_starts_afresh():
    history = History(3)
    history.add(100.0, "old")
    history.add(1.0, "new")
    assert history.nearest(100.0, 1.0) is None
    assert history.nearest(1.0, 1.0) == "new"


def test_nothing_is_found_in_nothing_and_no_stamp_is_no_entry():
    history = History(3)
    assert history.nearest(1.0, 1.0) is None
    history.add(1.0, "a")
    history.add(1.0, "again")
    history.add(float("nan"), "nan")
    assert history.nearest(1.0, 0.1) == "a"


def test_states_that_overtake_each_other_hide_nothing():
    history = History(200)
    for i in range(0, 100, 2):
        for stamp in (i + 1, i):
            history.add(0.01 * stamp, stamp)
    assert history.nearest(0.5, 0.011) == pytest.approx(50, abs=1)
    assert history.nearest(0.98, 0.011) == pytest.approx(98, abs=1)


def test_a_clock_that_goes_back_a_little_starts_afresh_when_that_is_certain():
    history = History(200)
    for i in range(100):
        history.add(0.01 * i, "old")
    for i in range(50, 54):
        history.add(0.01 * i, "new")
    assert history.nearest(0.9, 0.01) == "old"
    history.add(0.54, "new")
    assert history.nearest(0.9, 0.01) is None
    history.add(0.55, "new")
    assert history.nearest(0.55, 0.01) == "new"


def test_a_first_stamp_that_is_no_number_blocks_nothing():
    history = History(3)
    history.add(float("nan"), "nan")
    history.add(1.0, "a")
    assert history.nearest(1.0, 0.1) == "a"
