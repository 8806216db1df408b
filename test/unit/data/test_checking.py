"""Whatever lies in a file: sound steps leave a reader, or a `DataError` that says what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import Reference
from vla_ros.actions.rotation_vectors import rotation_vector_from_matrix
from vla_ros.actions.rotations import Rotation, matrix_from_quaternion
from vla_ros.actions.space import ActionSpace
from vla_ros.data.checking import CheckedReader, MotionLimits
from vla_ros.data.errors import DamagedDataError, DataError, UnusableEpisodeError
from vla_ros.data.reader import DatasetDescription
from vla_ros.errors import ObservationError


class Listed:
    """A reader of steps that are given to it."""

    def __init__(self, steps, error=None):
        first = steps[0]
        self.description = DatasetDescription(
            "listed", first.convention, tuple(first.images), first.proprioception_names, time_column="column 't'"
        )
        self.episodes, self._steps, self._error = ["a"], steps, error

    def read(self, episode, *, images=True):
        yield from self._steps
        if self._error is not None:
            raise self._error


def at(steps, times):
    return [replace(step, timestamp=float(time)) for step, time in zip(steps, times, strict=True)]


def read(steps, error=None, limits=None):
    return list(CheckedReader(Listed(steps, error), limits).read("a"))


def test_check_passes_sound_steps_unchanged(recordings):
    steps = recordings.walk("a", 8)
    late = at(steps, [0.0, 0.13, 0.2, 0.33, 0.4, 0.71, 0.8, 0.9])  # late ones, and two that are missing
    assert read(steps) == steps and read(late) == late


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (np.float32(1.7e9) + np.arange(8, dtype=np.float32) * np.float32(0.1), "step 1: by column 't' it is 0 s"),
        (np.zeros(8), "step 1: by column 't' it is 0 s"),
        (100.0 * np.arange(8), "it is 100 s behind the step before, expected about 0.1 s"),
        (-0.1 * np.arange(8), "it is -0.1 s"),
        (0.2 * np.arange(8), "steps are 0.2 s apart, at 10.0 Hz 0.1 s are expected"),
        (0.033 * np.arange(8), "steps are 0.033 s apart"),
    ],
)
def test_check_refuses_times_that_do_not_advance_by_a_period(times, says, recordings):
    with pytest.raises(UnusableEpisodeError, match=says):
        read(at(recordings.walk("a", 8), times))


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), OSError(2, "x"), AttributeError("x"), IndexError()])
def test_only_data_errors_leave_a_reader(error, recordings):
    with pytest.raises(DamagedDataError, match="listed, episode 'a' cannot be read"):
        read(recordings.walk("a", 2), error)


def test_errors_of_other_rooms_become_data_errors(recordings):
    with pytest.raises(DataError, match="listed, episode 'a': a joint is missing"):
        read(recordings.walk("a", 2), ObservationError("a joint is missing"))


def test_check_looks_at_motion_where_limits_are_given(recordings):
    steps = recordings.walk("a", 3)
    far = [replace(s, proprioception=np.where(np.arange(15) == 7, 450.0, s.proprioception)) for s in steps]
    limits = MotionLimits(0.5, 1.5, np.array([0.25, -0.4, 0.0]), np.array([0.75, 0.4, 0.6]))
    assert read(steps, limits=limits) == steps and read(far) == far
    with pytest.raises(UnusableEpisodeError, match=r"step 0: the tool is at \[450\.0, .*is it in meters"):
        read(far, limits=limits)


def demonstration(recordings, *, place=1.0, turn=1.0, shut=1.0, opening=1.0, count=40):
    """Steps of a tool that moves by 2 mm and 0.01 rad a step and then shuts its gripper.

    Factors are of the commands: of their way, their rotation, and of what the gripper is told (-1: the opposite); and
    of the measured opening.
    """
    steps = []
    for step in recordings.walk("a", count):
        index, state = step.index, step.proprioception.copy()
        state[7:10] = 0.5, 0.0, 0.2 + 0.002 * index
        state[10:14] = np.cos(0.005 * index), np.sin(0.005 * index), 0.0, 0.0
        state[14] = opening * (0.08 - 0.008 * np.clip(index - 12, 0, 6))
        wanted = 0.0 if (index >= 11) == (shut > 0) else 1.0
        action = np.array([0.0, 0.0, 0.002 * place, 0.0, 0.0, 0.01 * turn, wanted])
        steps.append(replace(step, proprioception=state, action=action))
    return steps


LIMITS = MotionLimits(0.5, 1.5, np.array([0.25, -0.4, 0.0]), np.array([0.75, 0.4, 0.6]), max_opening=0.08)


@pytest.mark.parametrize("factors", [{}, {"place": 5.0}, {"turn": 5.0}, {"place": 0.2}, {"turn": 0.0}])
def test_check_takes_commands_that_lead_or_lag(factors, recordings):
    steps = demonstration(recordings, **factors)
    assert read(steps, limits=LIMITS) == steps


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ({"place": 100.0}, r"sent 100 times as far as it moves .*in meters"),
        ({"turn": 57.3}, r"sent 57\.3 times as far as it turns .*in radians"),
        ({"place": 0.0}, r"sent 0 times as far as it moves .*and at least 0\.067"),
        ({"shut": -1.0}, r"the gripper opens and closes elsewhere than it is sent .*the gripper's convention"),
        ({"opening": 1000.0}, r"step 0: the gripper is open by 80 m, expected at most about 0\.08; .*in meters"),
        ({"opening": -3.0}, r"step 0: the gripper is open by -0\.24 m"),
    ],
)
def test_check_refuses_slow_motion_of_another_unit(factors, says, recordings):
    """Each command alone is one that the robot could follow."""
    with pytest.raises(UnusableEpisodeError, match=says):
        read(demonstration(recordings, **factors), limits=LIMITS)


def test_check_compares_no_size_of_absolute_commands(recordings):
    """The tool may be measured elsewhere than it is commanded, by a constant, and be slow."""
    space = ActionSpace.of_one_tool(
        "panda_link0", Reference.ABSOLUTE, Rotation.ROTATION_VECTOR, GripperConvention.OPEN_IS_ONE, 10.0, 1
    )
    steps = []
    for step in demonstration(recordings):
        turned = rotation_vector_from_matrix(matrix_from_quaternion(step.proprioception[10:14]))
        x, y, z = step.proprioception[7:10]
        action = np.array([x, y, z + 0.05, *turned, step.action[6]])
        steps.append(replace(step, action=action, convention=space))
    assert read(steps, limits=LIMITS) == steps
