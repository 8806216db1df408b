"""Small demonstrations whose every picture and number is known."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.actions.space import ActionSpace
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES, Step

CONVENTION = ActionSpace.of_one_tool("base", "relative", "rotation_vector", "open_is_one", 10.0, 1)
NAMES = ("joint_1", *POSE_NAMES, GRIPPER_NAME)
SIZES = {"front": (32, 48), "wrist": (64, 64)}


def picture(episode, index, camera):
    """Return a picture that differs from those of every other step: a grey level and a bright column."""
    height, width = SIZES[camera]
    image = np.full((height, width, 3), 40 + 60 * (episode % 3), np.uint8)
    image[:, (4 * index) % width : (4 * index) % width + 4] = (220, 120, 30)
    return image


def make_step(
    episode, index, count, *, success=True, convention=CONVENTION, instruction="pick up the red cube", **changes
):
    rng = np.random.default_rng([episode, index])
    state = np.array([rng.normal(), *rng.normal(size=3), 0.0, 0.0, 0.0, 1.0, 0.04]).astype(np.float32)
    given = {
        "images": {camera: picture(episode, index, camera) for camera in SIZES},
        "instruction": instruction,
        "proprioception": state,
        "action": rng.normal(size=convention.width).astype(np.float32),
        "convention": convention,
        "task": "pick",
        "episode": f"{episode:06d}",
        "index": index,
        "timestamp": index / 10.0,
        "last": index == count - 1,
        "success": success,
        "proprioception_names": NAMES,
    }
    return Step(**{**given, **changes})


def make_episode(episode, count=7, **options):
    return [make_step(episode, index, count, **options) for index in range(count)]


class Demonstrations:
    convention, names, sizes = CONVENTION, NAMES, SIZES
    description = DatasetDescription("test", CONVENTION, tuple(SIZES), NAMES, max_opening=0.08)
    picture, step, episode = staticmethod(picture), staticmethod(make_step), staticmethod(make_episode)


@pytest.fixture(scope="session")
def demonstrations():
    return Demonstrations


@pytest.fixture(scope="session")
def same_steps():
    def compare(found, wanted, pixels=12.0):
        """Compare steps; pictures may differ by what a video loses: `pixels` grey levels on average."""
        found, wanted = list(found), list(wanted)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            for name in ("instruction", "task", "episode", "index", "last", "success", "convention"):
                assert getattr(one, name) == getattr(other, name), name
            np.testing.assert_array_equal(one.action, other.action)
            np.testing.assert_array_equal(one.proprioception, other.proprioception)
            assert one.timestamp == pytest.approx(other.timestamp, abs=1e-9)
            assert set(one.images) == set(other.images)
            for camera, image in one.images.items():
                distance = np.abs(image.astype(int) - other.images[camera].astype(int)).mean()
                assert distance <= pixels, (camera, one.index, distance)

    return compare
