"""What is written comes back; several episodes share files; nothing old changes when something new comes."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from vla_ros.data.errors import ConventionError, DataError, DatasetBusyError
from vla_ros.data.lerobot import writer as writer_module
from vla_ros.data.lerobot.reader import LeRobotReader
from vla_ros.data.lerobot.writer import LeRobotWriter
from vla_ros.data.reader import EpisodeReader


@pytest.mark.parametrize("video", [True, False])
def test_episodes_come_back(tmp_path, demonstrations, same_steps, video):
    episodes = [
        demonstrations.episode(0, 7),
        demonstrations.episode(1, 12, success=False, instruction="push it left"),
        demonstrations.episode(2, 1, success=None),
    ]
    with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes, video_files=video) as writer:
        for steps in episodes:
            writer.write(steps)
    reader = LeRobotReader(tmp_path)
    assert isinstance(reader, EpisodeReader)
    assert reader.episodes == ["000000", "000001", "000002"]
    assert reader.description.max_opening == 0.08
    for name, steps in zip(reader.episodes, episodes, strict=True):
        same_steps(reader.read(name), steps, pixels=12.0 if video else 0.0)
    assert len(list(tmp_path.rglob("*.mp4"))) == (2 if video else 0)  # one file a camera, three episodes in it
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 1


def test_a_writer_goes_on(tmp_path, demonstrations, same_steps):
    for number in range(3):
        with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes) as writer:
            writer.write(demonstrations.episode(number, 4 + number))
    reader = LeRobotReader(tmp_path)
    for number, name in enumerate(reader.episodes):
        same_steps(reader.read(name), demonstrations.episode(number, 4 + number))
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["splits"]) == (3, 15, {"train": "0:3"})


def test_a_new_file_begins_when_one_is_full(tmp_path, demonstrations, same_steps):
    with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes, data_mb=0, video_mb=0) as writer:
        for number in range(3):
            writer.write(demonstrations.episode(number))
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 3
    assert len(list((tmp_path / "videos").rglob("*.mp4"))) == 6
    reader = LeRobotReader(tmp_path)
    for number, name in enumerate(reader.episodes):
        same_steps(reader.read(name), demonstrations.episode(number))


def test_figures_are_those_of_numpy(tmp_path, demonstrations):
    episodes = [demonstrations.episode(number, 5 + number) for number in range(3)]
    with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes, video_files=False) as writer:
        for steps in episodes:
            writer.write(steps)
    figures = json.loads((tmp_path / "meta/stats.json").read_text())
    actions = np.stack([step.action for steps in episodes for step in steps])
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(figures["action"][name], getattr(actions, name)(axis=0), rtol=1e-6, atol=1e-9)
    assert figures["action"]["count"] == [len(actions)]
    pictures = np.stack([step.images["front"] for steps in episodes for step in steps]) / 255.0
    for name in ("min", "max", "mean", "std"):
        found = np.array(figures["observation.images.front"][name])
        assert found.shape == (3, 1, 1)
        np.testing.assert_allclose(found.ravel(), getattr(pictures, name)(axis=(0, 1, 2)), rtol=1e-6)
    first = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()[0]
    wanted = np.quantile(np.stack([s.action for s in episodes[0]]), 0.9, axis=0)
    np.testing.assert_allclose(first["stats/action/q90"], wanted, rtol=1e-6)


def test_an_episode_that_is_not_committed_leaves_nothing(tmp_path, demonstrations):
    with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes) as writer:
        writer.write(demonstrations.episode(0))
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        with writer.episode("dropped", "pick") as episode:
            for step in demonstrations.episode(1):
                episode.add(step)
        with pytest.raises(DataError, match="no step"):
            writer.episode("empty", "pick").commit(True)
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_does_not_fit_is_refused(tmp_path, demonstrations):
    convention = demonstrations.convention
    other = type(convention).of_one_tool("base", "delta", "rotation_vector", "open_is_one", 10.0, 1)
    with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes) as writer:
        with pytest.raises(ConventionError, match="reference: 'relative' here, 'delta' there"):
            writer.write(demonstrations.episode(0, convention=other))
        late = [demonstrations.step(0, 0, 2), demonstrations.step(0, 1, 2, timestamp=0.0)]
        with pytest.raises(DataError, match="the one before at"):
            writer.write(late)
        writer.write(demonstrations.episode(0))
        with pytest.raises(DataError, match="already"):
            writer.write(demonstrations.episode(0))
        with pytest.raises(DatasetBusyError, match="another process"):
            LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes)
    changed = type(demonstrations.description)("test", other, tuple(demonstrations.sizes), demonstrations.names, 0.08)
    with pytest.raises(ConventionError, match="delta"):
        LeRobotWriter(tmp_path, changed, demonstrations.sizes)
    with pytest.raises(DataError, match=r"observation\.images\.front"):
        LeRobotWriter(tmp_path, demonstrations.description, {"front": (16, 48), "wrist": (64, 64)})
    assert LeRobotReader(tmp_path).episodes == ["000000"]


def test_a_fractional_rate_is_refused(tmp_path, demonstrations):
    convention = type(demonstrations.convention).of_one_tool(
        "base", "relative", "rotation_vector", "open_is_one", 7.5, 1
    )
    description = type(demonstrations.description)("x", convention, tuple(demonstrations.sizes), demonstrations.names)
    with pytest.raises(ConventionError, match="whole rates"):
        LeRobotWriter(tmp_path, description, demonstrations.sizes)


def test_reading_holds_few_pictures(tmp_path, demonstrations, monkeypatch):
    """However long the episode: counted are the decoded pictures that are alive at once."""
    import weakref

    from vla_ros.data.lerobot import reader as module

    count = 200
    with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes) as writer:
        writer.write(demonstrations.episode(0, count))
    refs, most, genuine = [], 0, module.read_frames

    class Counted(np.ndarray):
        pass

    def counting(*arguments):
        for image in genuine(*arguments):
            held = image.view(Counted)
            refs.append(weakref.ref(held))
            yield held

    monkeypatch.setattr(module, "read_frames", counting)
    seen = 0
    for _ in LeRobotReader(tmp_path).read("000000"):
        seen += 1
        most = max(most, sum(ref() is not None for ref in refs))
    assert seen == count
    assert most <= 6


def test_list_of_episodes_goes_on_in_another_file(tmp_path, demonstrations, monkeypatch):
    monkeypatch.setattr(writer_module, "ROWS_PER_LIST", 3)
    episodes = [demonstrations.episode(n, 2) for n in range(8)]
    for part in (episodes[:3], episodes[3:5], episodes[5:]):  # and a new writer takes it up anywhere
        with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes, video_files=False) as writer:
            for steps in part:
                writer.write(steps)
    files = sorted((tmp_path / "meta/episodes").rglob("*.parquet"))
    assert [pq.ParquetFile(path).metadata.num_rows for path in files] == [3, 3, 2]
    listed = pq.read_table(files[1])
    assert listed["meta/episodes/file_index"].to_pylist() == [1, 1, 1]
    assert listed["episode_index"].to_pylist() == [3, 4, 5]
    assert LeRobotReader(tmp_path).episodes == [f"{n:06d}" for n in range(8)]
    actions = np.stack([step.action for steps in episodes for step in steps])
    figures = json.loads((tmp_path / "meta/stats.json").read_text())["action"]
    np.testing.assert_allclose(figures["mean"], actions.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(figures["std"], actions.std(axis=0), atol=1e-6)
    assert figures["count"] == [16]
