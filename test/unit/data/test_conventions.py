"""What other data sets write about grippers in the terms of an action space."""

import numpy as np

from vla_ros.data.conventions import absolute_gripper


def test_a_gripper_that_is_told_nothing_stays():
    np.testing.assert_array_equal(absolute_gripper(np.array([0.0, 0.5, 0.0, -1.0, 0.0])), [1, 0, 0, 1, 1])
