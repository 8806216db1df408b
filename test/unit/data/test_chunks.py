"""A chunk says where the tool was sent to, as seen from the step: whatever the data set's own convention is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from vla_ros.actions.decoding import decode, encode
from vla_ros.actions.rotation_vectors import matrix_from_rotation_vector
from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.data.chunks import action_chunks
from vla_ros.data.errors import ConventionError, MissingColumnError

OPENING = 0.08


def commanded(step):
    """Return place and attitude that a relative action asks for, by the definition of "relative"."""
    pose = step.end_effector
    return pose.position + step.action[:3], matrix_from_rotation_vector(step.action[3:6]) @ matrix_from_quaternion(
        pose.quaternion
    )


def test_rows_are_the_commands_of_the_steps_that_follow_and_the_last_is_held(recordings):
    steps = recordings.walk("a", 6)
    wanted = replace(recordings.convention, horizon=4)
    chunks = action_chunks(steps, wanted, OPENING)
    assert chunks.shape == (6, 4, 7)
    for index, step in enumerate(steps):
        np.testing.assert_allclose(chunks[index, 0], step.action, atol=1e-9)
        start = step.end_effector
        for row in range(4):
            later = steps[min(index + row, 5)]
            place, attitude = commanded(later)
            np.testing.assert_allclose(chunks[index, row, :3], place - start.position, atol=1e-9)
            turned = matrix_from_rotation_vector(chunks[index, row, 3:6]) @ matrix_from_quaternion(start.quaternion)
            np.testing.assert_allclose(turned, attitude, atol=1e-9)
            assert chunks[index, row, 6] == later.action[6]


@pytest.mark.parametrize(
    "convention",
    [
        {"reference": "absolute", "rotation": "quaternion", "gripper": "closed_is_one"},
        {"reference": "delta", "rotation": "six_d", "gripper": "opening"},
    ],
)
def test_another_way_to_write_the_same_motion_gives_the_same_chunks(recordings, rewritten, convention):
    steps, wanted = recordings.walk("a", 5), replace(recordings.convention, horizon=3)
    other = rewritten(recordings.convention, **convention)
    written = []
    for step in steps:
        motion = decode(step.action[None], recordings.convention, step.end_effector, OPENING)
        written.append(replace(step, action=encode(motion, other, step.end_effector, OPENING)[0], convention=other))
    np.testing.assert_allclose(
        action_chunks(written, wanted, OPENING), action_chunks(steps, wanted, OPENING), atol=1e-9
    )


def test_steps_that_are_missing_do_not_squeeze_the_time(recordings):
    """Without the third of six steps, the row that was meant for it holds the command before it."""
    steps = recordings.walk("a", 6)
    wanted = replace(recordings.convention, horizon=4)
    whole, rest = action_chunks(steps, wanted, OPENING), action_chunks([*steps[:2], *steps[3:]], wanted, OPENING)
    np.testing.assert_allclose(rest[0, [0, 1, 3]], whole[0, [0, 1, 3]], atol=1e-12)
    np.testing.assert_allclose(rest[0, 2], rest[0, 1], atol=1e-12)
    late = [replace(step, timestamp=step.timestamp + 0.03 * (step.index % 2)) for step in steps]
    assert all(a.timestamp < b.timestamp for a, b in pairwise(late))
    np.testing.assert_allclose(action_chunks(late, wanted, OPENING), whole, atol=1e-12)


@pytest.mark.parametrize("rate", [5.0, 20.0, 30.0])
def test_another_rate_is_resampled(rate, recordings, rewritten):
    """A tool on a straight way at a steady pace is where it is, whatever the rate at which it was recorded."""
    speed, yaw, count = 0.1, 0.3, 12  # m/s, rad/s
    given = rewritten(recordings.convention, rate_hz=rate, reference="absolute", rotation="quaternion")

    def pose(time):
        return np.array([0.4 + speed * time, 0.0, 0.3]), np.array(
            [0, 0, np.sin(yaw * time / 2), np.cos(yaw * time / 2)]
        )

    steps = []
    for index, step in enumerate(recordings.walk("a", count)):
        time, state = index / rate, step.proprioception.copy()
        state[7:10], state[10:14] = pose(time)
        action = np.concatenate([*pose(time + 1.0 / rate), [float(time >= 0.2)]])
        changes = {"convention": given, "timestamp": time, "proprioception": state, "action": action}
        steps.append(replace(step, **changes))
    wanted = replace(recordings.convention, horizon=3)
    chunks = action_chunks(steps, wanted, OPENING)
    end = count / rate
    for index, chunk in enumerate(chunks):
        time = index / rate
        for row in range(3):
            ahead = min(time + (row + 1) / 10.0, end) - time
            np.testing.assert_allclose(chunk[row, :6], [speed * ahead, 0, 0, 0, 0, yaw * ahead], atol=1e-9)
            assert chunk[row, 6] == float(time + row / 10.0 + 0.5 / rate >= 0.2)


def test_another_motion_is_refused_with_every_line(recordings, rewritten):
    steps = recordings.walk("a", 2)
    wanted = rewritten(recordings.convention, frame="camera", rate_hz=5.0)
    with pytest.raises(ConventionError, match=r"frame is 'panda_link0' there, 'camera' here$"):
        action_chunks(steps, wanted, OPENING)
    with pytest.raises(ConventionError, match="does not say its full opening"):
        action_chunks(steps, rewritten(recordings.convention, gripper="opening"), None)


def test_without_the_tool_there_is_no_chunk(recordings):
    lost = recordings.walk("a", 2, proprioception=np.zeros(1), proprioception_names=("joint",))
    with pytest.raises(MissingColumnError, match="does not say where the tool is"):
        action_chunks(lost, recordings.convention, OPENING)
