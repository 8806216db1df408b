"""Cameras and frame under other names; everything else passes through."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.data.catalogue import open_dataset
from vla_ros.data.errors import MissingColumnError


@pytest.fixture(scope="module")
def folder(recordings, tmp_path_factory):
    return recordings.write(tmp_path_factory.mktemp("there") / "set", [recordings.walk("a", 3)], video_files=False)


def test_names_change_and_nothing_else(folder):
    plain = open_dataset("lerobot", folder)
    reader = open_dataset("lerobot", folder, rename_cameras={"front": "top"}, frame="base")
    assert reader.description.cameras == ("top", "wrist") and reader.description.convention.only_motion.frame == "base"
    assert reader.episodes == plain.episodes
    for one, other in zip(reader.read("a"), plain.read("a"), strict=True):
        np.testing.assert_array_equal(one.images["top"], other.images["front"])
        np.testing.assert_array_equal(one.images["wrist"], other.images["wrist"])
        np.testing.assert_array_equal(one.action, other.action)
        assert set(one.images) == {"top", "wrist"} and one.convention == reader.description.convention
    assert next(iter(reader.read("a", images=False))).images == {}


def test_a_camera_that_is_not_there_or_a_name_twice_is_refused(folder):
    with pytest.raises(MissingColumnError, match=r"no cameras \['side'\] to rename; it has \['front', 'wrist'\]"):
        open_dataset("lerobot", folder, rename_cameras={"side": "front"})
    with pytest.raises(MissingColumnError, match="called the same"):
        open_dataset("lerobot", folder, rename_cameras={"front": "wrist"})
