"""Every way in which a camera lies is named, and a scene at rest is no alarm."""

from __future__ import annotations

import numpy as np

from vla_ros.perception.health import CameraFault, CameraHealth, HealthLimits

STILL = np.zeros(7)
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 255, (96, 128, 3)).astype(np.uint8)


def _camera() -> CameraHealth:
    return CameraHealth(96, 128, HealthLimits(stale_after=0.5))


def test_nothing_yet_and_then_silence() -> None:
    camera = _camera()
    assert camera.watch(100.0) is CameraFault.SILENT
    assert camera.check(PICTURE, STILL, 100.0) is CameraFault.NONE
    assert camera.watch(100.5) is CameraFault.NONE
    assert camera.watch(100.51) is CameraFault.STALE
    assert camera.watch(float("nan")) is CameraFault.STALE, "a clock that is not a number is no proof of life"


def test_black_white_and_wrong_size() -> None:
    camera = _camera()
    assert camera.check(np.zeros_like(PICTURE), STILL, 0.0) is CameraFault.BLACK
    assert camera.check(np.full_like(PICTURE, 255), STILL, 0.1) is CameraFault.SATURATED
    assert camera.check(PICTURE[:48], STILL, 0.2) is CameraFault.WRONG_SIZE
    assert camera.check(PICTURE, STILL, 0.3) is CameraFault.NONE, "it comes back by itself"


def test_frozen_only_while_the_arm_moves() -> None:
    camera = _camera()
    for step in range(50):  # a static scene, an arm at rest
        assert camera.check(PICTURE, STILL, 0.1 * step) is CameraFault.NONE
    assert camera.check(PICTURE, STILL + 0.04, 5.1) is CameraFault.NONE
    assert camera.check(PICTURE, STILL + 0.06, 5.2) is CameraFault.FROZEN
    changed = PICTURE.copy()
    changed[::8, ::8] ^= 1
    assert camera.check(changed, STILL + 0.2, 5.3) is CameraFault.NONE


def test_without_joint_states_nothing_is_called_frozen() -> None:
    camera = _camera()
    for step in range(5):
        assert camera.check(PICTURE, None, 0.1 * step) is CameraFault.NONE
