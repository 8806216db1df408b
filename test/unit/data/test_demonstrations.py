"""Demonstrations come back from a LeRobot data set as they were, labels among them; those of earlier versions, too."""

from __future__ import annotations

import errno
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from vla_ros.data.episodes import durable
from vla_ros.data.episodes.demonstrations import (
    DemonstrationWriter,
    Episode,
    holds_demonstrations,
    read_episodes,
    read_specification,
    stored_episodes,
)
from vla_ros.data.errors import DataError, DiskFullError
from vla_ros.data.foreign.recognition import recognize
from vla_ros.data.lerobot.reader import LeRobotReader
from vla_ros.errors import VlaError
from vla_ros.robot.contract import load_contract

SPECIFICATION = load_contract("panda").action
HORIZON, WIDTH = SPECIFICATION.horizon, SPECIFICATION.width


def _episode(seed: int = 3, objects: int = 3, **changes: np.ndarray) -> Episode:
    rng = np.random.default_rng(seed)
    names = ["red cube", "blue ball", "green disc", "red ball"][:objects]
    pixels = rng.random((5, objects, 2)).astype(np.float32)
    pixels[2, 0] = np.nan
    arrays = {
        "position": rng.random((5, 3)).astype(np.float32),
        "quaternion": np.tile(np.float32([1.0, 0.0, 0.0, 0.0]), (5, 1)),
        "opening": rng.random(5).astype(np.float32),
        "image_front": rng.integers(0, 255, (5, 8, 12, 3)).astype(np.uint8),
        "actions": rng.random((5, objects, HORIZON, WIDTH)).astype(np.float32),
        "target": rng.random((5, objects, 3)).astype(np.float32),
        "pixel_front": pixels,
        "asked": np.array([0, 0, 1, 1, 1]),
        "names": np.array(names),
        "instruction": np.array([f"pick up the {names[k]}" for k in (0, 0, 1, 1, 1)]),
    }
    return Episode(seed, True, arrays | changes)


def _same(found: Episode, wanted: Episode) -> None:
    assert (found.seed, found.success, len(found)) == (wanted.seed, wanted.success, len(wanted))
    assert set(found.arrays) == set(wanted.arrays)
    for name, array in wanted.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)


def test_demonstrations_come_back_to_the_bit(tmp_path: Path) -> None:
    written = [_episode(1), _episode(3, objects=2), replace(_episode(2), success=False)]
    with DemonstrationWriter(tmp_path, SPECIFICATION, {"who": "test"}, 0.08) as writer:
        for episode in written:
            writer.commit(pickle.loads(pickle.dumps(writer.draft(episode))))  # as from another process
    found = list(read_episodes(tmp_path))
    assert [episode.seed for episode in found] == [1, 2, 3]
    for one, other in zip(found, sorted(written, key=lambda episode: episode.seed), strict=True):
        _same(one, other)
    assert read_specification(tmp_path) == SPECIFICATION
    without = next(read_episodes(tmp_path, images=False))
    assert set(written[0].arrays) - set(without.arrays) == {"image_front"}
    assert stored_episodes(tmp_path, {1, 3}) == {2: (5, False, "red cube")}


def test_demonstrations_are_steps_of_what_was_pursued(tmp_path: Path) -> None:
    DemonstrationWriter(tmp_path, SPECIFICATION, {}, 0.08).write(_episode())
    reader, arrays = LeRobotReader(tmp_path), _episode().arrays
    steps = list(reader.read("000000003"))
    for index, step in enumerate(steps):
        np.testing.assert_array_equal(step.action, arrays["actions"][index, arrays["asked"][index], 0])
        assert step.instruction == arrays["instruction"][index] and step.timestamp == pytest.approx(index / 10.0)
        np.testing.assert_array_equal(step.images["front"], arrays["image_front"][index])
    assert reader.description.max_opening == 0.08 and reader.description.aux["actions"].shape == (8, HORIZON, WIDTH)
    driven = np.ones((5, HORIZON, WIDTH), np.float32)
    DemonstrationWriter(tmp_path / "b", SPECIFICATION, {}).write(_episode(driven=driven, progress=np.ones(5, "f4")))
    assert (next(LeRobotReader(tmp_path / "b").read("000000003")).action == 1.0).all()
    _same(next(read_episodes(tmp_path / "b")), _episode(driven=driven, progress=np.ones(5, np.float32)))


def test_demonstrations_outlive_what_lies_beside_the_layout(tmp_path: Path) -> None:
    """What lerobot's own tools leave: the tables, and the columns of info.json."""
    DemonstrationWriter(tmp_path, SPECIFICATION, {}, 0.08).write(_episode())
    for name in ("collection.json", "vla_ros.json"):
        (tmp_path / "meta" / name).unlink()
    _same(next(read_episodes(tmp_path)), _episode())
    assert read_specification(tmp_path) == SPECIFICATION
    assert holds_demonstrations(tmp_path) and recognize(tmp_path) is None


def test_demonstrations_of_another_kind_do_not_come_into_a_folder(tmp_path: Path) -> None:
    source = {"world": "pick", "options": {"max_steps": 60, "varied_from": None}}
    place = tmp_path / "meta/collection.json"
    DemonstrationWriter(tmp_path, SPECIFICATION, source)
    before = place.read_bytes()
    DemonstrationWriter(tmp_path, SPECIFICATION, source)
    DemonstrationWriter(tmp_path, SPECIFICATION, {**source, "robot": "panda"})  # what it does not say is no difference
    other = {"world": "pick", "options": {"max_steps": 60, "varied_from": 7}}
    with pytest.raises(VlaError, match=r"source\.options\.varied_from: None then, 7 now; give another folder"):
        DemonstrationWriter(tmp_path, SPECIFICATION, other)
    with pytest.raises(VlaError, match=r"specification\.horizon: 12 then, 8 now"):
        DemonstrationWriter(tmp_path, replace(SPECIFICATION, horizon=8), source)
    assert place.read_bytes() == before
    place.write_text("half a fi")
    with pytest.raises(VlaError, match=r"collection\.json"):
        DemonstrationWriter(tmp_path, SPECIFICATION, source)


def test_demonstrations_of_other_labels_or_a_known_seed_are_refused(tmp_path: Path) -> None:
    DemonstrationWriter(tmp_path, SPECIFICATION, {}).write(_episode())
    with pytest.raises(DataError, match="has an episode '000000003' already"):
        DemonstrationWriter(tmp_path, SPECIFICATION, {}).write(_episode())
    more = _episode(4, progress=np.ones(5, np.float32), driven=np.ones((5, HORIZON, WIDTH), np.float32))
    with pytest.raises(DataError, match=r"column aux\.progress is"):
        DemonstrationWriter(tmp_path, SPECIFICATION, {}).write(more)
    with DemonstrationWriter(tmp_path, SPECIFICATION, {}) as writer:
        writer.commit(writer.draft(_episode(5)))
        with pytest.raises(DataError, match="other cameras, sizes, measurements or labels"):
            writer.commit(writer.draft(more))
    many = _episode(6, target=np.zeros((5, 9, 3), np.float32))
    with pytest.raises(DataError, match="is labelled for 9, at most 8 fit"):
        DemonstrationWriter(tmp_path / "b", SPECIFICATION, {}).draft(many)
    assert [episode.seed for episode in read_episodes(tmp_path)] == [3, 5]


def test_demonstration_that_does_not_fit_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = DemonstrationWriter(tmp_path, SPECIFICATION, {})
    writer.write(_episode(1))

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "synchronise", full)
        with pytest.raises(DiskFullError, match="episode '000000003'"):
            writer.write(_episode())
    assert [episode.seed for episode in read_episodes(tmp_path)] == [1]
    writer.write(_episode())
    assert [episode.seed for episode in read_episodes(tmp_path)] == [1, 3]


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    episode = _episode()
    episode.arrays["opening"][2] = np.nan
    with pytest.raises(VlaError, match="'opening'"):
        DemonstrationWriter(tmp_path, SPECIFICATION, {}).write(episode)
    assert list(read_episodes(tmp_path)) == []


def test_a_folder_without_description_is_named(tmp_path: Path) -> None:
    with pytest.raises(VlaError, match="is no data set that is known"):
        read_specification(tmp_path)


def _npz(folder: Path, **arrays: np.ndarray) -> Path:
    (folder / "meta.json").write_text(json.dumps({"specification": SPECIFICATION.to_dict(), "source": {}}))
    place = folder / "episode_000000003.npz"
    np.savez(place, success=True, seed=3, **arrays)
    return place


def test_demonstrations_of_an_earlier_version_are_read_with_a_warning(tmp_path: Path) -> None:
    _npz(tmp_path, **_episode().arrays)
    with pytest.warns(DeprecationWarning, match="npz episodes of an earlier version"):
        (there,) = read_episodes(tmp_path)
    _same(there, _episode())
    assert read_specification(tmp_path) == SPECIFICATION and recognize(tmp_path) is None
    with pytest.raises(DataError, match=r"\.npz episodes of an earlier version; give another folder"):
        DemonstrationWriter(tmp_path, SPECIFICATION, {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_damaged_or_pickled_episodes_of_an_earlier_version_are_named(tmp_path: Path) -> None:
    place = _npz(tmp_path, **_episode().arrays)
    place.write_bytes(place.read_bytes()[:-200])
    with pytest.raises(VlaError, match=place.name):
        list(read_episodes(tmp_path))
    _npz(tmp_path, names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(VlaError, match="allow_pickle"):
        list(read_episodes(tmp_path))
