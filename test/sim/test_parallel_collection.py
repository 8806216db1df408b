"""Several processes make what one makes; what is finished is not made again; failures are counted and left out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_ros.data.episodes.demonstrations import read_episodes
from vla_ros.envs.collection import LEDGER_FILE, CollectionJob, collect_in_parallel, read_ledger
from vla_ros.envs.collector import CollectionOptions
from vla_ros.envs.registry import make_collector
from vla_ros.errors import VlaError
from vla_ros.policies.driver import PolicyDriver
from vla_ros.robot.contract import load_contract

SHORT = CollectionOptions(max_steps=8, switch=0.0)


def _job(folder: Path, **changes: object) -> CollectionJob:
    return replace(CollectionJob("panda", "tabletop", SHORT, folder, keep_failures=True), **changes)


def test_two_processes_make_what_one_makes_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    reports = list(collect_in_parallel(_job(tmp_path), range(3), 2))
    assert sorted(r.seed for r in reports) == [0, 1, 2] and {r.steps for r in reports} == {8}
    alone = make_collector("tabletop", load_contract("panda"), SHORT)
    for episode in read_episodes(tmp_path):
        again = alone.collect(episode.seed)
        for name, array in episode.arrays.items():
            np.testing.assert_array_equal(array, again.arrays[name])

    ledger = tmp_path / LEDGER_FILE
    lines = ledger.read_text().splitlines()
    kept = [line for line in lines if '"seed": 2' not in line]
    ledger.write_text("\n".join(kept) + "\n" + '{"seed": 2, "suc')  # killed while it wrote the last line
    more = list(collect_in_parallel(_job(tmp_path), range(4), 2))
    assert sorted(r.seed for r in more) == [0, 1, 2, 3]
    assert [episode.seed for episode in read_episodes(tmp_path)] == [0, 1, 2, 3]
    # the report that was lost comes from the data set: nothing is collected twice
    assert sorted(set(more) & set(reports), key=lambda r: r.seed) == sorted(reports, key=lambda r: r.seed)


def test_a_broken_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_text('nonsense\n{"seed": 1}\n')
    with pytest.raises(VlaError, match="line 1, is no report"):
        read_ledger(tmp_path)
    assert read_ledger(tmp_path / "nowhere") == {}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"robot": "nosuch"}, "nosuch"),
        ({"world": "nosuch"}, "no world 'nosuch'"),
        ({"learner": PolicyDriver("nosuch")}, "no checkpoint 'nosuch'"),
    ],
)
def test_what_cannot_start_is_named_and_ends(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(VlaError, match=says):
        list(collect_in_parallel(_job(tmp_path, **changes), range(3), 2))


def test_failures_are_counted_and_left_out(tmp_path: Path) -> None:
    (report,) = collect_in_parallel(_job(tmp_path, keep_failures=False), [0], 1)
    assert not report.success and not report.stored and not list(read_episodes(tmp_path))
    (again,) = collect_in_parallel(_job(tmp_path, keep_failures=True), [0], 1)  # asked for now: collected again
    assert not again.success and again.stored and len(list(read_episodes(tmp_path))) == 1
    assert read_ledger(tmp_path) == {0: again}


def test_a_folder_holds_one_kind_of_episodes_also_when_nothing_is_missing(tmp_path: Path) -> None:
    list(collect_in_parallel(_job(tmp_path), [], 1))
    for changes, says in (
        ({"world": "pick"}, "source.world: 'tabletop' then, 'pick' now"),
        ({"robot": "fr3"}, "source.robot: 'panda' then, 'fr3' now"),
        ({"options": replace(SHORT, varied_from=0)}, "source.options.varied_from: None then, 0 now"),
        ({"learner": PolicyDriver("checkpoints/pick")}, "source.driven_by: 'expert' then, 'learner' now"),
    ):
        with pytest.raises(VlaError, match=re.escape(says)):
            list(collect_in_parallel(_job(tmp_path, **changes), [], 1))


def test_a_policy_drives_and_explores_and_is_recorded(tmp_path: Path) -> None:
    options = CollectionOptions(max_steps=6, disturbance=0.0, switch=0.0, record_learner=True)
    still, noisy = tmp_path / "still", tmp_path / "noisy"
    for folder, noise in ((still, 0.0), (noisy, 0.5)):
        job = CollectionJob("panda", "pick", options, folder, True, PolicyDriver("checkpoints/pick", noise=noise))
        list(collect_in_parallel(job, [1000], 1))
    (plain,), (explored,) = read_episodes(still), read_episodes(noisy)
    difference = explored.arrays["driven"][0] - plain.arrays["driven"][0]
    deviation = load_bundle_deviation()
    offsets = difference[:, :3] / deviation
    np.testing.assert_allclose(offsets, np.broadcast_to(offsets[0], offsets.shape), atol=1e-3)  # one offset a chunk
    assert np.abs(offsets[0]).max() > 0.05 and np.abs(difference[:, 3:]).max() < 1e-9
    assert (plain.arrays["progress"] >= 0.0).all() and plain.arrays["progress"][-1] > plain.arrays["progress"][0]


def load_bundle_deviation() -> np.ndarray:
    from vla_ros.models.checkpoint import load_bundle
    from vla_ros.paths import share_file

    statistics = load_bundle(share_file("checkpoints/pick")).processor.statistics
    return statistics.action.second[:, :3]
