"""Sound pictures and states become an observation; one bad camera withholds it, and good pictures bring it back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_ros.errors import ObservationError
from vla_ros.perception.assembler import Assembler, ObservationLimits
from vla_ros.perception.geometry import resize_for_policy
from vla_ros.perception.health import CameraFault, HealthLimits
from vla_ros.robot.sections.camera import CameraContract
from vla_ros.types import Pose, RobotState

CAMERAS = [
    CameraContract("front", "/front", "/front_info", "front_optical", 64, 48, 10.0, 24, 32),
    CameraContract("wrist", "/wrist", "/wrist_info", "wrist_optical", 64, 48, 10.0, 12, 16),
]
RNG = np.random.default_rng(0)


def picture() -> np.ndarray:
    return np.kron(RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))


def state_between(before: float, after: float, share: float) -> RobotState:
    """Raw states in these tests are the angle of the one joint."""
    angle = before + share * (after - before)
    return RobotState([angle], [0.0], 0.04, Pose(np.zeros(3), [0.0, 0.0, 0.0, 1.0]), 0.0)


@pytest.fixture
def assembler() -> Assembler[float]:
    return Assembler(CAMERAS, state_between, ObservationLimits())


def step(assembler: Assembler[float], stamp: float, angle: float = 0.0, **images: np.ndarray):
    """Add one set of sensor data and return what comes of it."""
    assembler.add_state(stamp, angle, stamp)
    for camera in CAMERAS:
        image = images.get(camera.name)
        assembler.add_image(camera.name, stamp, camera.frame, picture() if image is None else image, stamp)
    return assembler.take(1, stamp)


def test_an_observation_holds_the_pictures_as_the_policy_wants_them(assembler: Assembler[float]) -> None:
    front, wrist = picture(), picture()
    made = step(assembler, 5.0, 0.25, front=front, wrist=wrist)
    assert made is not None
    observation, stamps = made
    np.testing.assert_array_equal(observation.images["front"], resize_for_policy(front, 24, 32))
    np.testing.assert_array_equal(observation.images["wrist"], resize_for_policy(wrist, 12, 16))
    assert list(observation.images) == ["front", "wrist"]
    assert observation.state.joint_positions.tolist() == [0.25]
    assert (observation.stamp, observation.sequence, observation.skew) == (5.0, 1, 0.0)
    assert stamps == {"front": 5.0, "wrist": 5.0}


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (np.zeros((48, 64, 3), np.uint8), CameraFault.BLACK),
        (np.full((48, 64, 3), 128, np.uint8), CameraFault.UNIFORM),
        (RNG.integers(0, 255, (48, 64, 3), dtype=np.uint8), CameraFault.NOISE),
        (np.full((48, 64, 3), 255, np.uint8), CameraFault.SATURATED),
        (picture()[:24], CameraFault.WRONG_SIZE),
    ],
)
def test_one_bad_camera_withholds_the_observation_until_it_is_well(assembler, image, fault) -> None:
    assert step(assembler, 5.0) is not None
    for count in range(1, 20):
        assert step(assembler, 5.0 + 0.1 * count, wrist=image) is None
        assert assembler.health["wrist"].fault is fault
        assert assembler.health["front"].fault is CameraFault.NONE
    assert step(assembler, 7.0) is not None


def test_a_camera_in_the_place_of_another_is_refused(assembler: Assembler[float]) -> None:
    fault = assembler.add_image("front", 1.0, "wrist_optical", picture(), 1.0)
    assert fault is CameraFault.WRONG_FRAME
    said = "frame_id is 'wrist_optical', that of camera wrist, expected 'front_optical': are the two cameras swapped?"
    assert said in assembler.health["front"].sentence(1.0)
    for frame in ("", "/", "another_optical"):
        assert assembler.add_image("front", 1.0, frame, picture(), 1.0) is CameraFault.WRONG_FRAME
        assert "swapped" not in assembler.health["front"].sentence(1.0)
    assert assembler.add_image("front", 1.0, "/front_optical", picture(), 1.0) is CameraFault.NONE


@pytest.mark.parametrize("stamp", [0.0, -1.0, math.nan])
def test_a_picture_without_a_stamp_is_refused(assembler: Assembler[float], stamp: float) -> None:
    assert assembler.add_image("front", stamp, "front_optical", picture(), 1.0) is CameraFault.UNSTAMPED


def test_a_frozen_camera_withholds_the_observation_while_the_arm_moves(assembler: Assembler[float]) -> None:
    frozen = picture()
    made = [step(assembler, 1.0 + 0.1 * count, 0.05 * count, wrist=frozen) is not None for count in range(8)]
    assert made == [True] * 3 + [False] * 5
    assert assembler.withheld == 5
    assert assembler.health["wrist"].fault is CameraFault.FROZEN
    assert step(assembler, 1.8, 0.4) is not None, "it comes back by itself"
    assert assembler.health["wrist"].fault is CameraFault.NONE


def test_still_pictures_of_a_still_arm_go_on(assembler: Assembler[float]) -> None:
    still = picture()
    assert all(step(assembler, 1.0 + 0.1 * count, 0.0, front=still, wrist=still) for count in range(50))


def test_what_cannot_be_decoded_is_noted(assembler: Assembler[float]) -> None:
    assembler.reject_image("front", "image has 3 bytes", 1.0)
    assert assembler.health["front"].fault is CameraFault.UNREADABLE
    assert "image has 3 bytes" in assembler.health["front"].sentence(1.0)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_limits_out_of_range_are_refused(value: float) -> None:
    for limits in ({"skew": value}, {"patience": value}, {"health": HealthLimits(stale_after=value)}):
        with pytest.raises(ObservationError, match="expected a finite"):
            ObservationLimits(**limits)
