"""A mixture draws by weight, repeats by seed, goes on where it stopped, and deals every episode to one shard."""

import json
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from vla_ros.actions.space import ActionSpace
from vla_ros.data.catalogue import open_dataset, read_table
from vla_ros.data.errors import ConventionError, DataError
from vla_ros.data.lerobot.writer import LeRobotWriter
from vla_ros.data.mixture import Mixture, Source, shard_of
from vla_ros.data.normalisation import fit_statistics
from vla_ros.data.reader import DatasetDescription

CLOSED = ActionSpace.of_one_tool("base", "delta", "quaternion", "closed_is_one", 10.0, 1)


class Opened(list):
    """Readers, and the folder that their data sets are in."""

    def __init__(self, root, readers):
        super().__init__(readers)
        self.root = root


def opposite(demonstrations, number):
    """Return an episode in the other convention, whose actions are known."""
    actions = [(0.01 * i, 0, 0, 0, 0, 0, 1, i % 2) for i in range(4)]
    return [demonstrations.step(number, i, 4, convention=CLOSED, action=a) for i, a in enumerate(actions)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory, demonstrations):
    """Two data sets of nine and six episodes, the second of another convention."""
    root, given = tmp_path_factory.mktemp("mixture"), demonstrations.description
    contents = {
        "a": (demonstrations.convention, [demonstrations.episode(n, 3 + n % 3) for n in range(9)]),
        "b": (CLOSED, [opposite(demonstrations, n) for n in range(20, 26)]),
    }
    for name, (convention, episodes) in contents.items():
        description = DatasetDescription(name, convention, given.cameras, given.proprioception_names, 0.08)
        with LeRobotWriter(root / name, description, demonstrations.sizes) as writer:
            for steps in episodes:
                writer.write(steps)
    return Opened(root, [open_dataset("lerobot", root / name) for name in contents])


def mixture(readers, weights=(3.0, 1.0), **options):
    options = {"seed": 5, "open_episodes": 3, "convention": readers[0].description.convention, **options}
    lines = [Source(r, w, fit_statistics(r, options["convention"])) for r, w in zip(readers, weights, strict=True)]
    return Mixture(lines, **options)


def keys(samples):
    return [(s.dataset, s.step.episode, s.step.index) for s in samples]


def test_weights_are_kept(sources):
    count = 500
    drawn = Counter(sample.dataset for sample in islice(mixture(sources), count))
    spread = 4.0 * np.sqrt(count * 0.75 * 0.25)
    assert abs(drawn["a"] - 0.75 * count) < spread


def test_a_seed_decides(sources):
    first = keys(islice(mixture(sources), 60))
    assert keys(islice(mixture(sources), 60)) == first
    assert keys(islice(mixture(sources, seed=6), 60)) != first


@pytest.mark.parametrize("drawn", [0, 1, 37, 80])
def test_it_goes_on_exactly(sources, drawn):
    whole = keys(islice(mixture(sources), drawn + 50))
    stopped = mixture(sources)
    for _ in islice(stopped, drawn):
        pass
    state = json.loads(json.dumps(stopped.state()))
    resumed = mixture(sources)
    for _ in islice(resumed, 11):  # wherever it was before
        pass
    resumed.restore(state)
    assert keys(islice(resumed, 50)) == whole[drawn:]


def test_a_state_of_another_mixture_is_refused(sources):
    with pytest.raises(DataError, match=r"seed: 5 here, 6 there"):
        mixture(sources).restore(mixture(sources, seed=6).state())


def test_every_pass_shows_every_step_once(sources):
    reader = sources[0]
    everything = sorted((name, step.index) for name in reader.episodes for step in reader.read(name, pictures=False))
    one_pass = islice(mixture(sources[:1], (1.0,), open_episodes=1), len(everything))
    assert sorted((s.step.episode, s.step.index) for s in one_pass) == everything


def test_shards_share_no_episode_and_miss_none(sources):
    seen = []
    for rank in range(2):
        for worker in range(2):
            shard, shards = shard_of(rank, 2, worker, 2)
            one = mixture(sources[:1], (1.0,), shard=shard, shards=shards, open_episodes=1)
            episodes = set()
            for sample in one:
                if one.state()["streams"][0]["epoch"] > 0:
                    break
                episodes.add(sample.step.episode)
            seen.append(episodes)
    assert sum(map(len, seen)) == len(set().union(*seen)) == len(sources[0].episodes)
    with pytest.raises(DataError, match="9 episodes for 10 shards"):
        mixture(sources[:1], (1.0,), shards=10)
    with pytest.raises(DataError, match="rank 2 of 2"):
        shard_of(2, 2, 0, 1)


def test_mixture_normalizes_one_motion_as_one_number(sources):
    both = mixture(sources)
    samples = list(islice(both, 400))
    assert {sample.dataset for sample in samples} == {"a", "b"}
    for sample in samples:
        np.testing.assert_allclose(both.statistics.action.unnormalize(sample.action), sample.step.action, atol=1e-9)
        given = both.statistics.proprioception.unnormalize(sample.proprioception)
        np.testing.assert_allclose(given, sample.step.proprioception, atol=1e-9)


def test_pooled_statistics_are_those_of_all_rows(sources):
    both = mixture(sources)
    rows, weights = [], []
    for reader, share in zip(sources, (0.75, 0.25), strict=True):
        steps = [step for name in reader.episodes for step in reader.read(name, pictures=False)]
        rows += [step.proprioception for step in steps]
        weights += [share / len(steps)] * len(steps)
    rows, weights = np.stack(rows), np.array(weights)[:, None]
    mean = (weights * rows).sum(axis=0)
    deviation = np.sqrt((weights * (rows - mean) ** 2).sum(axis=0))
    np.testing.assert_allclose(both.statistics.proprioception.first, mean, atol=1e-9)
    changing = deviation > 1e-3
    np.testing.assert_allclose(both.statistics.proprioception.second[changing], deviation[changing], atol=1e-9)


def test_one_data_set_is_normalized_by_its_own(sources):
    for reader in sources:
        one = mixture([reader], (1.0,), open_episodes=1)
        total = sum(len(list(reader.read(name, pictures=False))) for name in reader.episodes)
        samples = list(islice(one, total))
        raw = np.stack([s.step.action for s in samples])
        np.testing.assert_allclose(np.stack([s.action for s in samples]).mean(axis=0), 0.0, atol=1e-9)
        changing = raw.std(axis=0) > 1e-3
        np.testing.assert_allclose(np.stack([s.action for s in samples]).std(axis=0)[changing], 1.0, atol=1e-9)


def test_conventions_are_brought_together_or_refused(sources, demonstrations):
    both = mixture(sources, convention=demonstrations.convention)
    for sample in islice(both, 60):
        assert sample.step.convention == demonstrations.convention
        if sample.dataset == "b":
            assert sample.step.action[6] == pytest.approx(1.0 - sample.step.index % 2)
            np.testing.assert_allclose(sample.step.action[:6], [0.01 * sample.step.index, 0, 0, 0, 0, 0], atol=1e-7)
    with pytest.raises(ConventionError, match="reference: 'delta' here, 'relative' there"):
        mixture(sources, convention=None)
    slow = replace(CLOSED, rate_hz=5.0)
    statistics = fit_statistics(sources[0])
    with pytest.raises(ConventionError, match=r"a: .*rate_hz is 10\.0 there, 5\.0 here"):
        Mixture([Source(sources[0], 1.0, statistics)], seed=0, convention=slow)
    with pytest.raises(ConventionError, match="fit them with the mixture's convention"):
        Mixture([Source(sources[0], 1.0, statistics)], seed=0, convention=CLOSED)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_weights_must_be_positive(sources, weight):
    with pytest.raises(DataError, match="positive"):
        mixture(sources, (1.0, weight))


def test_a_name_stands_once(sources):
    with pytest.raises(DataError, match="each name once"):
        mixture([sources[0], sources[0]])


def test_a_table_is_read(tmp_path, sources):
    table, root = tmp_path / "mixture.yaml", sources.root / "a"
    table.write_text(f"- {{format: lerobot, path: {root}, weight: 2}}\n"
                     f"- {{format: hdf5, path: x.hdf5, weight: 0.5, instruction: lift it}}\n")  # fmt: skip
    first, second = read_table(table)
    assert open_dataset(first.format, first.path, **first.options).episodes == sources[0].episodes
    assert (second.weight, second.options) == (0.5, {"instruction": "lift it"})
    table.write_text("- {format: lerobot, path: x}")
    with pytest.raises(DataError, match="line 1: expected format, path and weight"):
        read_table(table)
    with pytest.raises(DataError, match="no format 'zarr'"):
        open_dataset("zarr", tmp_path)
    with pytest.raises(DataError, match="does not take the options"):
        open_dataset("lerobot", root, colour=1)
