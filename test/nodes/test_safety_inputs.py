"""What the safety node keeps of the messages that come in."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sensor_msgs.msg import JointState

from vla_ros.nodes.safety.inputs import HISTORY, Inputs
from vla_ros.robot.contract import load_contract
from vla_ros.robot.joint_states.report import JointFault, JointReading, JointReportError
from vla_ros.ros.messages.conversions import seconds_to_stamp

CONTRACT = load_contract("panda")
NAMES = [*CONTRACT.joints.names, *CONTRACT.gripper.names]
OTHERS = [f"another_joint_with_a_long_name_{i}" for i in range(100)]


def message(stamp: float, angle: float = 0.0, others: int = 0) -> JointState:
    positions = [*(CONTRACT.joints.home + angle).tolist(), 0.04, 0.04, *[0.0] * others]
    names = [*NAMES, *(f"{name}_{stamp}" for name in OTHERS[:others])]
    made = JointState(name=names, position=positions, velocity=[0.0] * len(names))
    made.header.stamp = seconds_to_stamp(stamp)
    return made


def test_of_large_joint_states_only_the_postures_are_kept():
    inputs = Inputs(CONTRACT)
    inputs.offer_joint_state(message(0.0))
    tracemalloc.start()
    try:
        for i in range(HISTORY + 100):
            inputs.offer_joint_state(message(1.0 + 0.001 * i, others=len(OTHERS)))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < HISTORY * 1000, "bytes; a message of this test takes about fifteen thousand"


def test_the_posture_at_a_time_is_that_of_its_stamp():
    inputs = Inputs(CONTRACT)
    for i in range(10):
        inputs.offer_joint_state(message(1.0 + 0.01 * i, angle=0.01 * i))
    np.testing.assert_allclose(inputs.posture_at(1.052, 0.02), CONTRACT.joints.home + 0.05)
    assert inputs.posture_at(2.0, 0.02) is None


def test_a_joint_state_that_is_none_is_left_with_what_is_wrong_and_not_kept():
    inputs = Inputs(CONTRACT)
    wrong = message(1.0)
    wrong.position[3] = np.nan
    inputs.offer_joint_state(wrong, 7.0)
    error, received = inputs.take_joint_state()
    assert isinstance(error, JointReportError)
    assert (error.fault, received) == (JointFault.NOT_FINITE, 7.0)
    assert inputs.posture_at(1.0, 0.1) is None


def test_the_newest_joint_state_is_taken_once():
    inputs = Inputs(CONTRACT)
    inputs.offer_joint_state(message(1.0), 7.0)
    inputs.offer_joint_state(message(1.01, angle=0.2), 7.01)
    reading, received = inputs.take_joint_state()
    assert isinstance(reading, JointReading)
    assert (reading.stamp, received) == (pytest.approx(1.01), 7.01)
    np.testing.assert_array_equal(reading.positions, CONTRACT.joints.home + 0.2)
    assert inputs.take_joint_state() is None
