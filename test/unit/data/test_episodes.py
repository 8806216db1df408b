"""An episode is on disk whole or not at all, and nothing in it is unpickled."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_ros.data import durable
from vla_ros.data.episodes import Episode, EpisodeWriter, read_episodes, read_specification
from vla_ros.data.errors import DiskFullError
from vla_ros.errors import VlaError
from vla_ros.robot.contract import load_contract

SPECIFICATION = load_contract("panda").action


def _episode(seed: int = 3) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(seed, True, {
        "opening": rng.random(4).astype(np.float32),
        "image_front": rng.integers(0, 255, (4, 8, 8, 3)).astype(np.uint8),
        "pixel_front": np.full((4, 3, 2), np.nan, np.float32),
        "names": np.array(["red cube", "blue ball"]),
    })  # fmt: skip


def test_an_episode_survives(tmp_path: Path) -> None:
    EpisodeWriter(tmp_path, SPECIFICATION, {"who": "test"}).write(_episode())
    (there,) = read_episodes(tmp_path)
    assert (there.seed, there.success, len(there)) == (3, True, 4)
    for name, array in _episode().arrays.items():
        np.testing.assert_array_equal(there.arrays[name], array)
    assert read_specification(tmp_path) == SPECIFICATION


def test_a_half_written_episode_does_not_exist(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path, SPECIFICATION, {})
    whole = writer.write(_episode(1))
    (tmp_path / "episode_000000002.77.partial").write_bytes(whole.read_bytes()[:100])
    assert [episode.seed for episode in read_episodes(tmp_path)] == [1]


def test_a_truncated_episode_is_named(tmp_path: Path) -> None:
    path = EpisodeWriter(tmp_path, SPECIFICATION, {}).write(_episode())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(VlaError, match=path.name):
        list(read_episodes(tmp_path))


def test_episodes_of_another_kind_do_not_come_into_a_folder(tmp_path: Path) -> None:
    source = {"world": "pick", "options": {"max_steps": 60, "varied_from": None}}
    EpisodeWriter(tmp_path, SPECIFICATION, source)
    before = (tmp_path / "meta.json").read_bytes()
    EpisodeWriter(tmp_path, SPECIFICATION, source)
    EpisodeWriter(tmp_path, SPECIFICATION, {**source, "robot": "panda"})  # what it does not say is no difference
    other = {"world": "pick", "options": {"max_steps": 60, "varied_from": 7}}
    with pytest.raises(VlaError, match=r"source\.options\.varied_from: None then, 7 now; give another folder"):
        EpisodeWriter(tmp_path, SPECIFICATION, other)
    with pytest.raises(VlaError, match=r"specification\.horizon: 12 then, 8 now"):
        EpisodeWriter(tmp_path, replace(SPECIFICATION, horizon=8), source)
    assert (tmp_path / "meta.json").read_bytes() == before
    (tmp_path / "meta.json").write_text("half a fi")
    with pytest.raises(VlaError, match=r"meta\.json"):
        EpisodeWriter(tmp_path, SPECIFICATION, source)


def test_what_no_longer_fits_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = EpisodeWriter(tmp_path, SPECIFICATION, {})

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "synchronise", full)
    with pytest.raises(DiskFullError, match="episode 3 in"):
        writer.write(_episode())
    assert [path.name for path in tmp_path.iterdir()] == ["meta.json"]


def test_pickled_content_is_refused(tmp_path: Path) -> None:
    EpisodeWriter(tmp_path, SPECIFICATION, {})
    np.savez(tmp_path / "episode_000000001.npz", success=True, seed=1, names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(VlaError, match="allow_pickle"):
        list(read_episodes(tmp_path))


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    episode = _episode()
    episode.arrays["opening"][2] = np.nan
    with pytest.raises(VlaError, match="'opening'"):
        EpisodeWriter(tmp_path, SPECIFICATION, {}).write(episode)
    assert list(read_episodes(tmp_path)) == []


def test_a_folder_without_description_is_named(tmp_path: Path) -> None:
    with pytest.raises(VlaError, match=r"meta\.json"):
        read_specification(tmp_path)
