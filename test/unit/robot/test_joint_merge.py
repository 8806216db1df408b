from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ContractError
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.robot.joint_states.merge import BACKWARD_RESTART, KEPT, JointMerger, JointSample
from vla_ros.robot.joint_states.reader import JointStateReader
from vla_ros.robot.joint_states.report import JointFault, JointReport, JointReportError
from vla_ros.robot.joint_states.sources import JointSource

JOINTS = ("a", "b", "finger")
SOURCES = (JointSource("arm", ("b", "a"), 0.05), JointSource("gripper", ("finger",), 0.1))


def sample(stamp, *positions, received=None):
    return JointSample(np.array([positions, [0.0] * len(positions)]), stamp, stamp if received is None else received)


def arm(stamp, received=None):
    return "arm", sample(stamp, 2.0 * stamp, stamp, received=received)


def gripper(stamp, received=None):
    return "gripper", sample(stamp, 10.0 * stamp, received=received)


@pytest.fixture
def merger():
    return JointMerger(SOURCES, JOINTS)


def test_nothing_comes_before_every_source_has_reported(merger):
    assert merger.add(*arm(1.00)) is None
    assert merger.add(*arm(1.01)) is None


def test_the_merged_state_is_as_old_as_its_oldest_part(merger):
    for i in range(4):
        merger.add(*arm(1.00 + 0.01 * i))
    merged = merger.add(*gripper(1.024, received=1.06))
    assert (merged.stamp, merged.received) == (1.024, 1.03)
    np.testing.assert_allclose(merged.values[0], [1.024, 2.048, 10.24])  # the arm as it was then, not as it is now
    assert merger.add(*arm(1.04)) is None, "the gripper has not reached a newer time"


def test_it_comes_as_often_as_the_slowest_source(merger):
    came = []
    for i in range(200):
        came.append(merger.add(*arm(1.0 + 0.002 * i)))
        if i % 10 == 0:
            came.append(merger.add(*gripper(0.9997 + 0.002 * i)))
    stamps = [one.stamp for one in came if one is not None]
    assert len(stamps) == pytest.approx(20, abs=1)
    np.testing.assert_allclose(np.diff(stamps), 0.02)


@pytest.mark.parametrize(("silent", "limit"), [("arm", 0.05), ("gripper", 0.1)])
def test_a_silent_source_is_a_fault_by_name_after_its_own_limit(merger, silent, limit):
    merger.add(*arm(1.0))
    merger.add(*gripper(1.0))
    other = arm if silent == "gripper" else gripper
    merger.add(*other(1.0 + 0.99 * limit))
    with pytest.raises(JointReportError, match=f"source '{silent}'.*have stopped.*max_age is {limit}") as caught:
        merger.add(*other(1.0 + 1.01 * limit))
    assert caught.value.fault is JointFault.SOURCE


def test_a_source_that_never_comes_is_named(merger):
    merger.add(*arm(1.0))
    with pytest.raises(JointReportError, match=r"source 'gripper' \(finger\) have not come"):
        merger.add(*arm(1.11))


def test_a_source_of_another_clock_is_named(merger):
    merger.add(*arm(1.0))
    with pytest.raises(JointReportError, match=r"stamps of source 'arm' are 5\.000 s behind"):
        merger.add(*gripper(6.0, received=1.0))


def test_what_is_late_or_comes_twice_changes_nothing(merger):
    merger.add(*arm(1.0))
    assert merger.add(*gripper(1.0)) is not None
    for stamp in (1.0, 0.9):
        assert merger.add(*arm(stamp, received=1.0)) is None
        assert merger.add(*gripper(stamp, received=1.0)) is None
    merger.add(*arm(1.01))
    assert merger.add(*gripper(1.01)).stamp == 1.01


def test_a_clock_that_was_set_back_begins_anew(merger):
    for i in range(10):
        merger.add(*arm(100.0 + 0.01 * i, received=1.0))
        merger.add(*gripper(100.0 + 0.01 * i, received=1.0))
    stamps = []
    for i in range(2 * BACKWARD_RESTART):
        for one in (arm, gripper):
            merged = merger.add(*one(5.0 + 0.01 * i, received=1.0))
            stamps += [] if merged is None else [merged.stamp]
    assert stamps
    assert max(stamps) < 6.0


def test_nothing_is_interpolated_over_a_gap(merger):
    merger.add(*gripper(1.0, received=1.0))
    merger.add(*arm(1.0, received=1.0))
    merger.add(*arm(1.08, received=1.0))  # more than its limit after the one before
    assert merger.add(*gripper(1.04, received=1.0)) is None


def test_memory_is_bounded(merger):
    merger.add(*gripper(1.0, received=1.0))
    for i in range(3 * KEPT):
        merger.add(*arm(1.0 + 1e-5 * i, received=1.0))
    assert sum(len(samples) for samples in merger._samples.values()) <= KEPT + 1


# With a contract.

PANDA = load_contract("panda")
ARM, FINGERS = PANDA.joints.names, PANDA.gripper.names
LINE = "  joint_states_topic: /joint_states\n"


def contract_with(sources):
    assert PANDA.text.count(LINE) == 1
    return parse_contract(PANDA.text.replace(LINE, f"{LINE}  joint_states_from: {sources}\n"))


APART = (
    f"{{arm: {{joints: [{', '.join(ARM)}], max_age: 0.05}}, hand: {{joints: [{', '.join(FINGERS)}], max_age: 0.1}}}}"
)


def part(stamp, joints, **changes):
    positions = dict(zip((*ARM, *FINGERS), (*PANDA.joints.home, 0.03, 0.03), strict=True))
    values = {
        "names": joints,
        "positions": [positions[joint] for joint in joints],
        "velocities": [0.1] * len(joints),
        "stamp": stamp,
    } | changes
    return JointReport(**values)


def test_arm_and_gripper_of_two_drivers_are_one_reading():
    reader = JointStateReader(contract_with(APART))
    assert reader.read(part(1.0, ARM), 7.0) is None
    reading = reader.read(part(1.0, FINGERS, velocities=[]), 7.01)
    np.testing.assert_array_equal(reading.positions, PANDA.joints.home)
    np.testing.assert_array_equal(reading.velocities, np.full(7, 0.1))
    assert (reading.opening, reading.stamp, reading.received) == (pytest.approx(0.06), 1.0, 7.0)
    assert not reader.differentiates, "the velocity of fingers is of no use to anybody"


def test_without_the_line_two_drivers_are_a_fault():
    with pytest.raises(JointReportError, match=r"controllers\.joint_states_from has to name several"):
        JointStateReader(PANDA).read(part(1.0, ARM), 7.0)


def test_a_joint_of_two_sources_is_a_fault_by_name():
    reader = JointStateReader(contract_with(APART))
    with pytest.raises(
        JointReportError, match=r"source 'arm' also reports \['panda_finger_joint2'\] of source 'hand'"
    ) as e:
        reader.read(part(1.0, (*ARM, FINGERS[1])), 7.0)
    assert e.value.fault is JointFault.SOURCE


def test_the_silence_that_refused_reports_leave_is_told_by_why_they_were_refused():
    reader = JointStateReader(contract_with(APART))
    told = []
    for i in range(30):
        for joints in ((*ARM, FINGERS[0]) if i >= 10 else ARM, FINGERS):
            try:
                reader.read(part(1.0 + 0.01 * i, joints), 7.0 + 0.01 * i)
            except JointReportError as error:
                told.append(str(error))
    assert len(told) > 30, "of the reports of the arm and, once it is silent, of those of the hand"
    assert all("source 'arm' also reports ['panda_finger_joint1']" in sentence for sentence in told)
    for joints in (ARM, FINGERS):
        reading = reader.read(part(1.3, joints), 7.3)
    assert reading is not None, "it is well again"


def test_a_part_of_a_source_is_a_fault():
    with pytest.raises(JointReportError, match=r"lacks \['panda_joint1'\].*source 'arm' has to report"):
        JointStateReader(contract_with(APART)).read(part(1.0, ARM[1:]), 7.0)


def test_the_velocities_of_one_source_can_be_missing():
    reader = JointStateReader(contract_with(APART))
    for i in range(20):
        reader.read(part(1.0 + 0.01 * i, ARM, velocities=[]), 7.0)
        reading = reader.read(part(1.0 + 0.01 * i, FINGERS), 7.0)
    np.testing.assert_allclose(reading.velocities, 0.0, atol=1e-9)
    assert reader.differentiates


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        (APART.replace("panda_joint7, ", "").replace(", panda_joint7", ""), r"\['panda_joint7'\] have no source"),
        (APART.replace("[panda_finger_joint1", "[panda_joint1, panda_finger_joint1"), "have two sources"),
        (APART.replace("[panda_joint1", "[wheel, panda_joint1"), r"\['wheel'\] are neither"),
        (APART.replace("0.05", "1.5"), "max_age: got 1.5 s, expected at most 1.0"),
        (APART.replace("0.05", ".nan"), "expected a finite number"),
        (APART.replace("max_age: 0.05", "age: 0.05"), "unknown lines"),
        ("[arm, hand]", "expected a mapping"),
    ],
)
def test_sources_that_make_no_sense_are_refused(sources, says):
    with pytest.raises(ContractError, match=says):
        contract_with(sources)
