"""What is done to sensor messages is what its name says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from vla_ros.errors import ObservationError
from vla_ros.ros.messages.conversions import array_to_image, image_to_array, seconds_to_stamp, stamp_to_seconds
from vla_ros.safety_bench.graph.tampering.tampering import IMAGES, STATES, shifted

PICTURE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)


def image(stamp: float = 5.0) -> Image:
    return array_to_image(PICTURE, stamp, "optical")


def state(stamp: float = 5.0) -> JointState:
    message = JointState(name=list("abcd"), position=[0.1, 0.2, 0.3, 0.4], velocity=[1.0, 2.0, 3.0, 4.0])
    message.header.stamp = seconds_to_stamp(stamp)
    return message


def test_time_moves_with_header_and_clock():
    assert stamp_to_seconds(shifted(image(), 3600.0).header.stamp) == 3605.0
    assert stamp_to_seconds(shifted(Clock(clock=seconds_to_stamp(7.0)), -2.0).clock) == 5.0
    assert stamp_to_seconds(shifted(state(), -3600.0).header.stamp) == 0.0  # there is no time before 0


@pytest.mark.parametrize(("name", "value"), [("black", 0), ("white", 255), ("gray", 128)])
def test_a_filled_picture(name, value):
    changed = IMAGES[name]()(image())
    assert (image_to_array(changed) == value).all()
    assert changed.header == image().header


def test_a_silent_camera_and_a_skewed_one():
    assert IMAGES["silent"]()(image()) is None
    assert stamp_to_seconds(IMAGES["skewed"]()(image()).header.stamp) == pytest.approx(4.8)


def test_a_halved_picture_is_sound_in_itself():
    changed = image_to_array(IMAGES["half"]()(image()))
    np.testing.assert_array_equal(changed, PICTURE[:12])


def test_an_encoding_that_nobody_knows_cannot_be_decoded():
    with pytest.raises(ObservationError):
        image_to_array(IMAGES["encoding"]()(image()))


def test_a_frozen_picture_keeps_its_content_and_not_its_stamp():
    freeze = IMAGES["frozen"]()
    freeze(image(5.0))
    other = array_to_image(255 - PICTURE, 6.0, "optical")
    changed = freeze(other)
    np.testing.assert_array_equal(image_to_array(changed), PICTURE)
    assert stamp_to_seconds(changed.header.stamp) == 6.0


def test_a_frozen_picture_that_flickers_changes_in_one_value():
    flicker = IMAGES["flickering"]()
    taken = [array_to_image(255 - PICTURE if i else PICTURE, 5.0 + i, "optical") for i in range(4)]
    shown = [image_to_array(flicker(one)) for one in taken]
    for i in range(3):
        assert np.count_nonzero(shown[i] != shown[i + 1]) == 1
    assert np.count_nonzero(shown[3] != PICTURE) <= 1


def test_a_darkened_picture_keeps_its_uppermost_rows():
    changed = image_to_array(IMAGES["dark"]()(image()))
    np.testing.assert_array_equal(changed[:1], PICTURE[:1])
    assert not changed[1:].any()


def test_noise_is_another_picture_every_time():
    noise = IMAGES["noise"]()
    one, other = image_to_array(noise(image())), image_to_array(noise(image()))
    assert one.shape == PICTURE.shape
    assert np.count_nonzero(one == other) < one.size / 10


def test_joint_states_lose_a_joint_or_change_their_order():
    partial = STATES["partial"]()(state())
    assert list(partial.name) == ["a", "b", "d"]
    assert list(partial.position) == [0.1, 0.2, 0.4]
    turned = STATES["reordered"]()(state())
    assert dict(zip(turned.name, turned.position, strict=True)) == dict(zip("abcd", state().position, strict=True))
    assert list(turned.name) == list("dcba")


def test_joints_that_measure_nonsense():
    assert np.isnan(STATES["nan"]()(state()).position[1])
    assert STATES["huge"]()(state()).position[1] == 1e300
    assert STATES["far"]()(state()).position[1] == pytest.approx(0.7)  # 0.2 + 0.5


def test_states_that_repeat_or_overtake_each_other():
    repeat, late = STATES["repeated"](), STATES["late"]()
    repeat(state(5.0))
    assert stamp_to_seconds(repeat(state(6.0)).header.stamp) == 5.0
    passed = [late(state(float(i))) for i in range(1, 5)]
    assert [None if one is None else stamp_to_seconds(one.header.stamp) for one in passed] == [None, 1.0, None, 3.0]


def test_frozen_joint_states_keep_their_positions_and_not_their_stamps():
    freeze = STATES["frozen"]()
    freeze(state(5.0))
    other = state(6.0)
    other.position = [9.0] * 4
    changed = freeze(other)
    assert list(changed.position) == [0.1, 0.2, 0.3, 0.4]
    assert list(changed.velocity) == [0.0] * 4
    assert stamp_to_seconds(changed.header.stamp) == 6.0


def test_swapped_joint_states_exchange_the_first_two_joints():
    changed = STATES["swapped"]()(state())
    assert list(changed.position) == [0.2, 0.1, 0.3, 0.4]
    assert list(changed.velocity) == [2.0, 1.0, 3.0, 4.0]
    assert list(changed.name) == list("abcd")
