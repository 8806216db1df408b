"""Resizing averages areas, so that a known pattern has a known result."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ObservationError
from vla_ros.perception.geometry import resize_for_policy


def test_shrinking_averages_by_hand() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :2] = [[[0], [40]], [[80], [120]]]  # mean 60
    image[2:, 2:, 0] = 255
    small = resize_for_policy(image, 2, 2)
    assert small[0, 0].tolist() == [60, 60, 60]
    assert small[1, 1].tolist() == [255, 0, 0]
    assert small[0, 1].tolist() == [0, 0, 0]


def test_the_right_size_passes_untouched() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    assert resize_for_policy(image, 4, 6) is image


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_rgb_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ObservationError, match="expected"):
        resize_for_policy(image, 2, 2)


def test_height_comes_before_width() -> None:
    assert resize_for_policy(np.zeros((40, 60, 3), np.uint8), 10, 30).shape == (10, 30, 3)


@pytest.mark.parametrize(("height", "width"), [(0, 4), (4, 0), (-1, 4)])
def test_a_size_that_is_none_is_refused(height: int, width: int) -> None:
    with pytest.raises(ObservationError, match="expected positive sizes"):
        resize_for_policy(np.zeros((4, 4, 3), np.uint8), height, width)
