"""Every way in which a camera lies is named, and a scene at rest is no alarm."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vla_ros.perception.health import CameraFault, CameraHealth, HealthLimits
from vla_ros.robot.sections.camera import CameraContract, CameraHealthLimits

STILL = np.zeros(7)
RNG = np.random.default_rng(0)
PICTURE = np.kron(RNG.integers(0, 255, (12, 16, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
NOISE = RNG.integers(0, 255, (96, 128, 3), dtype=np.uint8)
CAMERA = CameraContract("front", "/image", "/info", "optical", 128, 96, 10.0, 96, 128)
LIMITS = HealthLimits(stale_after=0.5)


def halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> np.ndarray:
    """Return an image of two colors."""
    return np.broadcast_to(np.where(np.arange(128)[:, None] < 64, left, right), (96, 128, 3)).astype(np.uint8)


def limited(**health) -> CameraHealth:
    """Return the health of a camera whose contract has other limits."""
    return CameraHealth(replace(CAMERA, health=CameraHealthLimits(**health)), LIMITS)


@pytest.fixture
def camera() -> CameraHealth:
    return CameraHealth(CAMERA, LIMITS)


def show(camera: CameraHealth, image: np.ndarray, joints: np.ndarray, now: float) -> CameraFault:
    """Return the verdict as the node comes to it."""
    fault = camera.check(image, now)
    return fault if fault not in (CameraFault.NONE, CameraFault.FROZEN) else camera.check_motion(image, joints, now)


def test_nothing_yet_then_images_then_silence(camera: CameraHealth) -> None:
    assert camera.watch(100.0) is CameraFault.SILENT
    assert camera.age(100.0) == math.inf
    assert camera.check(PICTURE, 100.0) is CameraFault.NONE
    assert camera.watch(100.5) is CameraFault.NONE
    assert camera.watch(100.51) is CameraFault.STALE
    assert "0.5 s ago" in camera.sentence(100.51)
    assert camera.watch(math.nan) is CameraFault.STALE, "a clock that is not a number is no proof of life"
    assert camera.check(PICTURE, 103.0) is CameraFault.NONE, "it comes back by itself"


@pytest.mark.parametrize(
    ("image", "fault", "says"),
    [
        (np.zeros((96, 128, 3), np.uint8), CameraFault.BLACK, "100% of the pixels"),
        (PICTURE // 25, CameraFault.BLACK, "lens covered"),
        (np.full((96, 128, 3), 255, np.uint8), CameraFault.SATURATED, "100% of the pixels"),
        (
            np.where(RNG.random((96, 128, 1)) < 0.97, 0, PICTURE).astype(np.uint8),
            CameraFault.BLACK,
            "max_dark_fraction",
        ),
        (np.where(np.arange(128)[None, :, None] < 125, 0, PICTURE).astype(np.uint8), CameraFault.BLACK, "98% of"),
        (np.full((96, 128, 3), 128, np.uint8), CameraFault.UNIFORM, "contrast 0.0, min_contrast is 3.0"),
        (np.full((96, 128, 3), (255, 40, 40), np.uint8), CameraFault.UNIFORM, "contrast 0.0"),
        (RNG.normal(128, 1.0, (96, 128, 3)).astype(np.uint8), CameraFault.UNIFORM, "min_contrast"),
        (RNG.normal(128, 20.0, (96, 128, 3)).astype(np.uint8), CameraFault.NOISE, "max_noise is 0.75"),
        (NOISE, CameraFault.NOISE, "neighboring pixels"),
        (np.repeat(RNG.integers(0, 255, (96, 128, 1), np.uint8), 3, 2), CameraFault.NOISE, "neighboring pixels"),
        (PICTURE[:48], CameraFault.WRONG_SIZE, "128 x 48 px, expected 128 x 96"),
        (PICTURE.transpose(1, 0, 2), CameraFault.WRONG_SIZE, "96 x 128 px, expected 128 x 96"),
    ],
)
def test_a_picture_that_is_no_use_by_itself(camera: CameraHealth, image, fault, says) -> None:
    assert camera.check(image, 0.0) is fault
    assert says in camera.sentence(0.0)
    assert camera.refused == 1
    assert camera.check(PICTURE, 0.1) is CameraFault.NONE, "it comes back by itself"
    assert camera.sentence(0.1) == "healthy"


@pytest.mark.parametrize(
    "image",
    [
        np.where(np.arange(128)[None, :, None] < 120, 0, PICTURE).astype(np.uint8),  # a lit corner in the dark
        np.where(np.arange(128)[None, :, None] < 110, 255, PICTURE // 2).astype(np.uint8),  # a white table
        halves((255, 40, 40), (230, 30, 30)),  # a red thing, near
        halves((0, 0, 60), (0, 0, 90)),
        np.broadcast_to(255 * (np.arange(128) // 3 % 2)[None, :, None], (96, 128, 3)).astype(np.uint8),  # thin stripes
    ],
)
def test_a_dark_or_a_bright_scene_is_no_alarm(camera: CameraHealth, image: np.ndarray) -> None:
    assert camera.check(image, 0.0) is CameraFault.NONE


def test_a_still_scene_is_no_alarm_however_long(camera: CameraHealth) -> None:
    for step in range(200):
        assert show(camera, PICTURE, STILL + 0.04 * np.sin(step), 0.1 * step) is CameraFault.NONE


def test_the_same_picture_while_the_arm_moves_is_an_alarm(camera: CameraHealth) -> None:
    faults = [show(camera, PICTURE, STILL + 0.06 * step, 0.1 * step) for step in range(6)]
    # 0.18 rad after three steps, of which the largest does not count
    assert faults == [CameraFault.NONE] * 3 + [CameraFault.FROZEN] * 3
    assert "6 images over 0.30 rad" in camera.sentence(0.5)
    assert camera.refused == 3


def test_an_arm_that_came_back_makes_the_picture_no_fresher(camera: CameraHealth) -> None:
    faults = [show(camera, PICTURE, STILL + angle, 0.1 * step) for step, angle in enumerate((0.0, 0.1, 0.2, 0.1, 0.0))]
    assert faults[-1] is CameraFault.FROZEN


def test_what_moved_between_two_images_alone_may_have_been_the_measurement(camera: CameraHealth) -> None:
    """A driver that had frozen jumps to where the arm is; held because of it, the arm shows no new image ever again."""
    for step in range(50):
        assert show(camera, PICTURE, STILL + (0.13 if step > 3 else 0.0), 0.1 * step) is CameraFault.NONE
    faults = [show(camera, PICTURE, STILL + 0.13 + 0.05 * step, 0.1 * step) for step in range(4)]
    assert faults[-1] is CameraFault.FROZEN  # it is the camera after all


@pytest.mark.parametrize("swing", [(0.0, 0.13), (0.0, 0.13, 0.26, 0.13), (0.0, 0.15, 0.15)])
def test_an_arm_that_swings_fast_shows_a_frozen_camera(camera: CameraHealth, swing: tuple[float, ...]) -> None:
    """Its largest step between two images is about as long as all of its way, but it is not the only one."""
    faults = [show(camera, PICTURE, STILL + swing[step % len(swing)], 0.1 * step) for step in range(10)]
    assert faults[-1] is CameraFault.FROZEN


@pytest.mark.parametrize("hertz", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("size", [0.05, 0.079])
def test_an_arm_that_swings_about_one_place_shows_a_frozen_camera(camera: CameraHealth, hertz, size) -> None:
    """It is never `frozen_travel` away from where the image froze, and a slow one hardly moves between two images."""
    way = 0.0
    for step in range(1800):
        now = step / 30
        way += 4.0 * size * hertz / 30
        if show(camera, PICTURE, STILL + size * np.sin(2 * np.pi * hertz * now), now) is CameraFault.FROZEN:
            break
    assert camera.fault is CameraFault.FROZEN
    assert way < 1.0
    assert "to and fro" in camera.sentence(now)


@pytest.mark.parametrize("push", [0.0, 0.045, 0.05, 0.06])
@pytest.mark.parametrize("size", [0.004, 0.006, 0.008, 0.018])
def test_the_noise_of_a_joint_sensor_is_no_way_however_long(camera: CameraHealth, push: float, size: float) -> None:
    """An arm that was pushed once by about half a frozen travel and stands since, its sensor noisy."""
    random = np.random.default_rng(1)
    for step in range(3000):
        noise = random.uniform(-size, size, 7)
        assert show(camera, PICTURE, STILL + push * min(step, 10) / 10 + noise, step / 30) is CameraFault.NONE


@pytest.mark.parametrize("sigma", [0.002, 0.004])
def test_a_gaussian_noise_of_a_joint_sensor_is_no_way_either(camera: CameraHealth, sigma: float) -> None:
    random = np.random.default_rng(2)
    for step in range(3000):
        noise = random.normal(0.0, sigma, 7)
        assert show(camera, PICTURE, STILL + 0.045 * min(step, 10) / 10 + noise, step / 30) is CameraFault.NONE


def test_a_false_measurement_that_comes_and_goes_at_rest_is_no_motion(camera: CameraHealth) -> None:
    for step in range(50):
        off = 0.13 if 10 < step < 20 else 0.0
        noise = 5e-4 * (step % 2)
        assert show(camera, PICTURE, STILL + off + noise, 0.1 * step) is CameraFault.NONE


@pytest.mark.parametrize(("speed", "verdict"), [(2.6, CameraFault.NONE), (math.inf, CameraFault.FROZEN)])
def test_a_false_measurement_is_no_motion(speed: float, verdict: CameraFault) -> None:
    """0.3 rad in 0.1 s are 3 rad/s, twice: the joint did not go there."""
    camera = CameraHealth(CAMERA, replace(LIMITS, joint_speed=speed))
    for step in range(20):
        lie = 0.3 * min(max(step - 3, 0), 2)
        fault = show(camera, PICTURE, STILL + lie, 0.1 * step)
    assert fault is verdict


def test_false_measurements_now_and_then_do_not_hide_a_frozen_picture() -> None:
    """0.3 rad off in each sixth image, and the arm moves on at 0.3 rad/s."""
    camera = CameraHealth(CAMERA, replace(LIMITS, joint_speed=2.6))
    faults = [show(camera, PICTURE, STILL + 0.01 * step + 0.3 * (step % 6 == 5), step / 30) for step in range(30)]
    assert faults[-8:] == [CameraFault.FROZEN] * 8


def test_a_frozen_picture_is_found_with_a_limit_of_speed_too() -> None:
    camera = CameraHealth(CAMERA, replace(LIMITS, joint_speed=2.6))
    faults = [show(camera, PICTURE, STILL + 0.25 * step, 0.1 * step) for step in range(6)]
    assert faults == [CameraFault.NONE] * 3 + [CameraFault.FROZEN] * 3


@pytest.mark.parametrize("values", [(3,), (1, 1, 1)])
def test_a_flickering_pixel_does_not_hide_a_frozen_image(camera: CameraHealth, values) -> None:
    for step in range(6):
        image = PICTURE.copy()
        image[95 - step % 96, 127, : len(values)] ^= np.array(values, np.uint8)
        fault = show(camera, image, STILL + 0.05 * step, 0.1 * step)
    assert fault is CameraFault.FROZEN


def test_a_small_part_of_the_image_that_changes_is_life(camera: CameraHealth) -> None:
    for step in range(40):
        image = PICTURE.copy()
        image[40:43, 3 * (step % 40) : 3 * (step % 40) + 3] ^= 255
        assert show(camera, image, STILL + 0.05 * step, 0.1 * step) is CameraFault.NONE


@pytest.mark.parametrize(
    ("limit", "changed", "verdict"),
    [
        (None, 0.0004, CameraFault.FROZEN),
        (None, 0.0006, CameraFault.NONE),
        (0.01, 0.009, CameraFault.FROZEN),
        (0.01, 0.011, CameraFault.NONE),
        (0.2, 0.19, CameraFault.FROZEN),
        (0.2, 0.21, CameraFault.NONE),
        (0.0, 0.00003, CameraFault.NONE),
    ],
)
def test_an_image_has_changed_from_min_changed_fraction_on(limit, changed, verdict) -> None:
    camera = limited() if limit is None else limited(min_changed_fraction=limit)
    values = np.arange(PICTURE.size).reshape(PICTURE.shape) < changed * PICTURE.size
    for step in range(8):
        image = np.where(values & (step % 2 == 1), PICTURE ^ 1, PICTURE)
        fault = show(camera, image, STILL + 0.05 * step, 0.1 * step)
    assert fault is verdict


@pytest.mark.parametrize("sigma", [0.5, 5.0, 10.0])
def test_a_camera_with_noise_of_its_own_is_never_frozen(camera: CameraHealth, sigma: float) -> None:
    for step in range(20):
        image = np.clip(PICTURE + RNG.normal(0.0, sigma, PICTURE.shape), 0, 255).astype(np.uint8)
        assert show(camera, image, STILL + 0.05 * step, 0.1 * step) is CameraFault.NONE


@pytest.mark.parametrize("sigma", [0.0, 5.0, 10.0])
@pytest.mark.parametrize("contrast", [12.0, 40.0])
def test_a_scene_with_sensor_noise_is_no_alarm(sigma: float, contrast: float) -> None:
    scene = 128.0 + contrast * 1.4 * np.sin(np.arange(640) / 30.0)[None, :, None] * np.ones((480, 1, 3))
    image = np.clip(scene + RNG.normal(0.0, sigma, scene.shape), 0, 255).astype(np.uint8)
    camera = CameraHealth(replace(CAMERA, width=640, height=480), LIMITS)
    assert camera.check(image, 0.0) is CameraFault.NONE, camera.sentence(0.0)


@pytest.mark.parametrize(
    ("image", "health"),
    [
        (np.full((96, 128, 3), 128, np.uint8), {"min_contrast": 0.0}),
        (NOISE, {"max_noise": 2.0}),
        (np.where(np.arange(128)[None, :, None] < 125, 0, PICTURE).astype(np.uint8), {"max_dark_fraction": 0.99}),
        (np.where(np.arange(128)[None, :, None] < 125, 255, PICTURE).astype(np.uint8), {"max_bright_fraction": 0.99}),
        (np.full((96, 128, 3), 255, np.uint8), {"max_bright_fraction": 1.0, "min_contrast": 0.0}),
    ],
)
def test_every_limit_can_be_set_for_a_camera(image: np.ndarray, health: dict) -> None:
    assert CameraHealth(CAMERA, LIMITS).check(image, 0.0) is not CameraFault.NONE
    assert limited(**health).check(image, 0.0) is CameraFault.NONE


@pytest.mark.parametrize(
    ("health", "frozen"),
    [({}, True), ({"expects_motion": False}, False), ({"frozen_after": 9}, False), ({"frozen_travel": 2.0}, False)],
)
def test_what_counts_as_frozen_can_be_set_for_a_camera(health: dict, frozen: bool) -> None:
    camera = limited(**health)
    for step in range(8):
        fault = show(camera, PICTURE, STILL + 0.05 * step, 0.1 * step)
    assert (fault is CameraFault.FROZEN) == frozen


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (64, 1), (2, 2), (49, 97)])
def test_images_of_any_size_are_judged(shape: tuple[int, int]) -> None:
    camera = CameraHealth(replace(CAMERA, height=shape[0], width=shape[1]), LIMITS)
    for image in (np.zeros((*shape, 3), np.uint8), np.full((*shape, 3), 90, np.uint8)):
        assert camera.check(image, 0.0) in (CameraFault.BLACK, CameraFault.UNIFORM)


def test_an_empty_frame_is_named(camera: CameraHealth) -> None:
    assert camera.receive(PICTURE, "", 1.0, 0.0) is CameraFault.WRONG_FRAME
    assert camera.sentence(0.0) == (
        "images come from another optical frame than the robot contract says (frame_id is empty, expected 'optical': "
        "set header.frame_id in the driver)"
    )
    assert camera.receive(PICTURE, "/optical", 1.0, 0.0) is CameraFault.NONE


def test_a_frozen_camera_that_moves_again_is_healthy_again(camera: CameraHealth) -> None:
    for step in range(6):
        show(camera, PICTURE, STILL + 0.05 * step, 0.1 * step)
    assert camera.check(PICTURE, 0.6) is CameraFault.FROZEN, "an image by itself does not end it"
    assert show(camera, PICTURE[::-1], STILL + 0.4, 0.7) is CameraFault.NONE
    assert camera.sentence(0.7) == "healthy"


def test_an_arm_whose_joints_are_no_number_is_no_proof_of_rest(camera: CameraHealth) -> None:
    faults = [show(camera, PICTURE, np.full(7, math.nan if step else 0.0), 0.1 * step) for step in range(5)]
    assert faults[-1] is CameraFault.FROZEN


def test_what_the_node_refuses_is_kept_with_its_reason(camera: CameraHealth) -> None:
    camera.refuse(CameraFault.WRONG_FRAME, "camera_b, expected camera_a", 1.0)
    assert camera.watch(1.1) is CameraFault.WRONG_FRAME
    assert "another optical frame" in camera.sentence(1.1)
    assert "camera_b, expected camera_a" in camera.sentence(1.1)
    assert camera.watch(2.0) is CameraFault.STALE


def test_the_rate_is_that_of_the_recent_images(camera: CameraHealth) -> None:
    for step in range(50):
        camera.check(PICTURE, 0.05 * step)
    assert camera.rate(2.5) == pytest.approx(20.0)
    assert camera.age(2.5) == pytest.approx(0.05)
    assert camera.rate(4.0) == 0.0, "they have stopped"
    for step in range(11):
        camera.check(PICTURE, 10.0 + 0.1 * step)
    assert camera.rate(11.0) == pytest.approx(10.0), "the pause is no part of the rate"
    assert camera.images == 61
