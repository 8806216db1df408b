"""A mixture draws by weight from (seed, update, row) alone, and a window of it shows every episode in turn."""

from collections import Counter

import numpy as np
import pytest

from vla_ros.data.catalogue import open_dataset, read_table
from vla_ros.data.errors import DataError
from vla_ros.data.mixture import WINDOW_UPDATES, Member, Mixture

MEMBERS = [Member("a", 3.0, (3, 4, 5, 3, 4)), Member("b", 1.0, (2, 6))]


def generators(update, rows=range(8), seed=0):
    return [np.random.default_rng([seed, update, row]) for row in rows]


def test_mixture_draws_by_weight_and_step():
    count = 4000
    sets, steps = Mixture(MEMBERS).draw(generators(0, range(count)), 0)
    assert abs((sets == 0).sum() - 0.75 * count) < 4.0 * np.sqrt(count * 0.75 * 0.25)
    for number, one in enumerate(MEMBERS):
        drawn = Counter(steps[sets == number].tolist())
        assert set(drawn) == set(range(sum(one.lengths)))
        fair = (sets == number).sum() / sum(one.lengths)
        assert max(abs(n - fair) for n in drawn.values()) < 5.0 * np.sqrt(fair)


def test_mixture_rows_are_independent_of_their_batch():
    mixture = Mixture(MEMBERS)
    whole = mixture.draw(generators(7), 7)
    halves = [mixture.draw(generators(7, rows), 7) for rows in (range(4), range(4, 8))]
    for one, first, second in zip(whole, *halves, strict=True):
        np.testing.assert_array_equal(one, np.concatenate([first, second]))
    assert not np.array_equal(whole[1], mixture.draw(generators(8), 8)[1])


@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_mixture_window_visits_all_episodes_alike(window):
    mixture = Mixture([Member("a", 1.0, (3, 4, 5, 3, 4), window)])
    assert mixture.windowed
    visits = Counter()
    for block in range(200):
        episodes = mixture.window(0, block * WINDOW_UPDATES)
        assert 1 <= len(episodes) <= window and mixture.window(0, (block + 1) * WINDOW_UPDATES - 1) == episodes
        visits.update(episodes)
        _, steps = mixture.draw(generators(block), block * WINDOW_UPDATES)
        firsts = np.cumsum([0, 3, 4, 5, 3, 4])
        assert {int(np.searchsorted(firsts, step, side="right")) - 1 for step in steps} <= set(episodes)
    assert max(visits.values()) - min(visits.values()) <= 0.2 * max(visits.values())


def test_mixture_window_as_large_as_the_set_is_the_set():
    wide = Mixture([Member("a", 1.0, (3, 4, 5), 9)])
    assert not wide.windowed
    plain = Mixture([Member("a", 1.0, (3, 4, 5))])
    np.testing.assert_array_equal(wide.draw(generators(5), 500)[1], plain.draw(generators(5), 500)[1])


@pytest.mark.parametrize("window", [None, 2])
def test_mixture_draws_no_row_of_an_episode_left_out(window):
    mixture = Mixture([Member("a", 3.0, (3, 4, 5, 3, 4), window, frozenset({1, 3})), MEMBERS[1]])
    updates = range(0, 40 * WINDOW_UPDATES, WINDOW_UPDATES)
    assert {one for update in updates for one in mixture.window(0, update)} == {0, 2, 4}
    sets, steps = mixture.draw(generators(0, range(500)), 0)
    assert not set(steps[sets == 0].tolist()) & {3, 4, 5, 6, 12, 13, 14}
    with pytest.raises(DataError, match="all 2 episodes are left out"):
        Mixture([Member("b", 1.0, (2, 6), left_out=frozenset({0, 1}))])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_weights_must_be_positive(weight):
    with pytest.raises(DataError, match="positive"):
        Mixture([MEMBERS[0], Member("b", weight, (1,))])


def test_a_name_stands_once():
    with pytest.raises(DataError, match="each name once"):
        Mixture([MEMBERS[0], MEMBERS[0]])


@pytest.mark.parametrize("member", [Member("a", 1.0, ()), Member("a", 1.0, (3, 0)), Member("a", 1.0, (3,), 0)])
def test_mixture_refuses_empty_members(member):
    with pytest.raises(DataError, match="expected at least one of each"):
        Mixture([member])


def test_a_table_is_read(tmp_path, recordings):
    table, root = tmp_path / "mixture.yaml", recordings.write(tmp_path / "a", [recordings.walk("one", 2)])
    table.write_text(
        f"- {{format: lerobot, path: {root}, weight: 2}}\n"
        f"- {{format: hdf5, path: x.hdf5, weight: 0.5, instruction: lift it}}\n"
    )
    first, second = read_table(table)
    assert open_dataset(first.format, first.path, **first.options).episodes == ["one"]
    assert (second.weight, second.options) == (0.5, {"instruction": "lift it"})
    table.write_text("- {format: lerobot, path: x}")
    with pytest.raises(DataError, match="line 1: expected format, path and weight"):
        read_table(table)
    with pytest.raises(DataError, match="no format 'zarr'"):
        open_dataset("zarr", tmp_path)
    with pytest.raises(DataError, match="does not take the options"):
        open_dataset("lerobot", root, colour=1)
