"""Messages and types turn into each other without loss, and what is malformed is named."""

from __future__ import annotations

import array
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMessage
from geometry_msgs.msg import Quaternion
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import Image, JointState

from vla_ros.errors import ChunkError, InstructionError, ObservationError
from vla_ros.msg import Observation as ObservationMessage
from vla_ros.nodes.safety.conversions import STATE_REASONS
from vla_ros.robot.contract import load_contract
from vla_ros.robot.joint_states.report import JointFault, JointReportError
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.messages.conversions import (
    array_to_image,
    chunk_to_message,
    image_to_array,
    instruction_to_message,
    joint_state_to_robot_state,
    message_to_chunk,
    message_to_instruction,
    message_to_observation,
    message_to_pose,
    observation_to_message,
    robot_state_to_joint_state,
    seconds_to_stamp,
    stamp_to_seconds,
)
from vla_ros.safety.reasons import Reason
from vla_ros.types import ActionChunk, Instruction, InstructionKind, Observation, RobotState

CONTRACT = load_contract("panda")
KINEMATICS = Kinematics(CONTRACT)
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 255, (6, 8, 3)).astype(np.uint8)


VIEW = RNG.integers(0, 255, (96, 128, 3)).astype(np.uint8)


def _views() -> dict[str, np.ndarray]:
    return {"front": VIEW, "wrist": VIEW[::-1].copy()}


def _state(stamp: float = 12.5) -> RobotState:
    q = CONTRACT.joints.home + 0.01
    return RobotState(q, np.arange(7) * 0.1, 0.05, KINEMATICS.forward(q), stamp)


@given(st.integers(0, 2**31 - 1), st.integers(0, 999_999_999))
def test_stamps_survive(sec: int, nanosec: int) -> None:
    there = seconds_to_stamp(stamp_to_seconds(Time(sec=sec, nanosec=nanosec)))
    # A double holds 53 bits: below 2^22 s every nanosecond is another one; at 2^31 s they are 0.24 us apart.
    assert abs((there.sec - sec) * 10**9 + there.nanosec - nanosec) <= (0 if sec < 2**22 else 120)


@pytest.mark.parametrize(
    ("seconds", "sec", "nanosec"),
    [
        (0.0, 0, 0),
        (0.9999999999, 1, 0),
        (1.5, 1, 500_000_000),
        (1e-9, 0, 1),
        (math.nextafter(2.0**31, 0.0), 2**31 - 1, 999_999_762),
        (1795488734.25, 1795488734, 250_000_000),
    ],
)
def test_stamps_by_hand(seconds: float, sec: int, nanosec: int) -> None:
    stamp = seconds_to_stamp(seconds)
    assert (stamp.sec, stamp.nanosec) == (sec, nanosec)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, 2.0**31])
def test_times_that_fit_no_stamp_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="does not fit a stamp"):
        seconds_to_stamp(seconds)


def test_rgb8_is_viewed_and_not_copied() -> None:
    message = array_to_image(PICTURE, 1.25, "camera")
    there = image_to_array(message)
    np.testing.assert_array_equal(there, PICTURE)
    message.data[0] = (int(PICTURE[0, 0, 0]) + 1) % 256
    assert there[0, 0, 0] == message.data[0]
    assert stamp_to_seconds(message.header.stamp) == 1.25


@pytest.mark.parametrize(("encoding", "pixel"), [("bgr8", [3, 2, 1]), ("rgba8", [1, 2, 3, 9]), ("bgra8", [3, 2, 1, 9])])
def test_other_encodings_become_rgb(encoding: str, pixel: list[int]) -> None:
    message = Image(height=1, width=2, encoding=encoding, step=2 * len(pixel))
    message.data = array.array("B", pixel * 2)
    assert image_to_array(message).tolist() == [[[1, 2, 3], [1, 2, 3]]]


def test_padding_at_the_end_of_rows_is_left_out() -> None:
    message = Image(height=2, width=1, encoding="rgb8", step=4)
    message.data = array.array("B", [1, 2, 3, 99, 4, 5, 6, 99])
    assert image_to_array(message).tolist() == [[[1, 2, 3]], [[4, 5, 6]]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoding": "yuv444"}, "encoding 'yuv444'"),
        ({"encoding": ""}, "encoding ''"),
        ({"height": 7}, "expected 7 rows"),
        ({"height": 0}, "at least 1 x 1"),
        ({"step": 3}, "24 bytes"),
    ],
)
def test_a_malformed_image_is_named(change: dict[str, object], says: str) -> None:
    message = array_to_image(PICTURE, 0.0, "camera")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ObservationError, match=says):
        image_to_array(message)


@pytest.mark.parametrize(
    "picture", [PICTURE[..., 0], PICTURE.astype(np.float64), PICTURE[:0], np.zeros((2, 2, 4), np.uint8)]
)
def test_what_is_no_picture_becomes_no_message(picture: np.ndarray) -> None:
    with pytest.raises(ObservationError, match="expected"):
        array_to_image(picture, 0.0, "camera")


def test_a_picture_that_is_a_view_becomes_a_message() -> None:
    np.testing.assert_array_equal(image_to_array(array_to_image(PICTURE[::2, ::-1], 0.0, "camera")), PICTURE[::2, ::-1])


def test_joints_are_mapped_by_name() -> None:
    state = _state()
    message = robot_state_to_joint_state(state, CONTRACT)
    order = list(reversed(range(9)))
    shuffled = JointState(
        name=[message.name[i] for i in order] + ["base_wheel"],
        position=[message.position[i] for i in order] + [9.0],
        velocity=[message.velocity[i] for i in order] + [9.0],
    )
    shuffled.header = message.header
    there = joint_state_to_robot_state(shuffled, CONTRACT, KINEMATICS)
    np.testing.assert_array_equal(there.joint_positions, state.joint_positions)
    np.testing.assert_array_equal(there.joint_velocities, state.joint_velocities)
    assert there.gripper_opening == pytest.approx(0.05) and there.stamp == 12.5


@pytest.mark.parametrize(
    ("fault", "says", "kind"),
    [
        ("missing", r"lacks \['panda_joint3'\]", JointFault.JOINTS),
        ("twice", "twice", JointFault.JOINTS),
        ("nan", "not finite", JointFault.NOT_FINITE),
        ("ragged", "9 positions and 5 velocities", JointFault.JOINTS),
        ("no velocities", "9 positions and 0 velocities", JointFault.JOINTS),
        ("infinite velocity", "not finite", JointFault.NOT_FINITE),
        ("huge", "over 1000", JointFault.OUT_OF_RANGE),
        ("degrees", "are these degrees", JointFault.OUT_OF_RANGE),
        ("finger nan", "not finite", JointFault.NOT_FINITE),
        ("finger in mm", r"fingers are 25\.0250 m apart", JointFault.OUT_OF_RANGE),
        ("nothing", "lacks", JointFault.JOINTS),
    ],
)
def test_a_malformed_joint_state_is_named(fault: str, says: str, kind: JointFault) -> None:
    message = robot_state_to_joint_state(_state(), CONTRACT)
    if fault == "missing":
        message.name[2] = "another"
    elif fault == "twice":
        message.name[2] = message.name[1]
    elif fault == "nan":
        message.position[3] = math.nan
    elif fault == "ragged":
        message.velocity = message.velocity[:5]
    elif fault == "infinite velocity":
        message.velocity[0] = math.inf
    elif fault == "no velocities":
        message.velocity = []
    elif fault == "huge":
        message.position[0] = 1e300
    elif fault == "degrees":
        message.position = [*np.degrees(message.position[:7]), *message.position[7:]]
    elif fault == "finger nan":
        message.position[8] = math.nan
    elif fault == "finger in mm":
        message.position[7] *= 1000.0
    else:
        message = JointState()
    with pytest.raises(JointReportError, match=says) as caught:
        joint_state_to_robot_state(message, CONTRACT, KINEMATICS)
    assert caught.value.fault is kind


def test_an_observation_survives() -> None:
    observation = Observation(_views(), _state(), None, 12.5, 7, 0.01)
    there = message_to_observation(observation_to_message(observation, CONTRACT), CONTRACT)
    assert (there.stamp, there.sequence, there.skew) == (12.5, 7, 0.01)
    assert list(there.images) == ["front", "wrist"]
    np.testing.assert_array_equal(there.images["wrist"], VIEW[::-1])
    np.testing.assert_array_equal(there.state.joint_positions, observation.state.joint_positions)
    np.testing.assert_array_equal(there.state.end_effector.quaternion, observation.state.end_effector.quaternion)


def test_every_picture_keeps_its_stamp_and_frame() -> None:
    observation = Observation(_views(), _state(), None, 12.5)
    front, wrist = observation_to_message(observation, CONTRACT, {"wrist": 12.75}).images
    assert (stamp_to_seconds(front.header.stamp), front.header.frame_id) == (12.5, CONTRACT.camera("front").frame)
    assert (stamp_to_seconds(wrist.header.stamp), wrist.header.frame_id) == (12.75, CONTRACT.camera("wrist").frame)


def _set(path: str, value: object) -> Callable[[ObservationMessage], None]:
    def change(message: ObservationMessage) -> None:
        *way, last = path.split(".")
        for name in way:
            message = getattr(message, name)
        setattr(message, last, value)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("joint_names", ["one"] * 7), "robot's are"),
        (_set("joint_names", []), "robot's are"),
        (_set("gripper_opening", math.nan), "finite"),
        (_set("skew", math.inf), "finite"),
        (_set("joint_positions", [0.0] * 6), "expected 7 positions"),
        (_set("joint_positions", [0.0] * 6 + [math.nan]), "finite"),
        (_set("joint_velocities", [1e300] * 7), "finite"),
        (_set("joint_velocities", []), "expected 7 positions"),
        (_set("end_effector.position.x", math.nan), "expected finite meters"),
        (_set("end_effector.position.x", 1e300), "expected finite meters"),
        (_set("end_effector.orientation", Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)), "expected norm 1"),
        (_set("end_effector.orientation", Quaternion(x=0.0, y=0.0, z=0.0, w=1.01)), "expected norm 1"),
        (_set("end_effector.orientation", Quaternion(x=math.nan, y=0.0, z=0.0, w=1.0)), "expected norm 1"),
        (_set("end_effector.orientation", Quaternion(x=1e300, y=0.0, z=0.0, w=1.0)), "expected norm 1"),
        (_set("camera_names", ["front", "front"]), "expected one each"),
        (_set("camera_names", ["front", "side"]), "expected one each"),
        (_set("camera_names", ["front"]), "expected one each"),
        (_set("images", []), "expected one each"),
        (_set("images", [array_to_image(VIEW[:48], 0.0, "x")] * 2), r"\(48, 128\), expected \(96, 128\)"),
        (_set("images", [Image(), Image()]), "encoding ''"),
    ],
)
def test_an_observation_that_cannot_be_is_refused(change: Callable[[ObservationMessage], None], says: str) -> None:
    message = observation_to_message(Observation(_views(), _state(), None, 12.5), CONTRACT)
    change(message)
    with pytest.raises(ObservationError, match=says):
        message_to_observation(message, CONTRACT)


def test_a_quaternion_that_is_nearly_one_is_made_one() -> None:
    pose = message_to_pose(PoseMessage(orientation=Quaternion(x=0.0, y=0.0, z=0.0, w=1.0005)))
    assert pose.quaternion.tolist() == [0.0, 0.0, 0.0, 1.0]


def test_a_state_made_of_the_message_it_became_is_the_same() -> None:
    state = _state()
    there = joint_state_to_robot_state(robot_state_to_joint_state(state, CONTRACT), CONTRACT, KINEMATICS)
    np.testing.assert_array_equal(there.joint_positions, state.joint_positions)
    np.testing.assert_allclose(there.end_effector.position, state.end_effector.position)


def test_a_chunk_survives_and_a_ragged_or_poisoned_one_does_not() -> None:
    actions = RNG.normal(size=(12, 7))
    chunk = ActionChunk(actions, 0.1, 3.25, "0123456789abcdef", 4, 5, "policy", 0.75, 6)
    there = message_to_chunk(chunk_to_message(chunk))
    np.testing.assert_array_equal(there.actions, actions)
    assert (there.observation_stamp, there.observation_sequence, there.instruction_sequence) == (3.25, 4, 5)
    assert (there.trust, there.sequence, there.specification) == (0.75, 6, "0123456789abcdef")
    for poison in (math.nan, math.inf):
        message = chunk_to_message(chunk)
        message.actions[3] = poison
        with pytest.raises(ChunkError, match="not finite"):
            message_to_chunk(message)
    message = chunk_to_message(chunk)
    message.width = 8
    with pytest.raises(ChunkError, match="expected 12 rows of 8"):
        message_to_chunk(message)
    message.horizon = message.width = 0
    message.actions = []
    with pytest.raises(ChunkError, match="at least 1 x 1"):
        message_to_chunk(message)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("horizon", 0, "expected 0 rows"),
        ("actions", [], "0 numbers"),
        ("actions", [0.0] * 83, "83 numbers, expected 12 rows of 7"),
        ("period", 0.0, "period is 0.0"),
        ("period", math.nan, "period is nan"),
        ("trust", math.nan, "trust is nan"),
        ("trust", 1.5, "trust is 1.5"),
    ],
)
def test_a_chunk_that_cannot_be_is_refused(field: str, value: object, says: str) -> None:
    message = chunk_to_message(ActionChunk(np.zeros((12, 7)), 0.1, 3.25, "0123456789abcdef"))
    setattr(message, field, value)
    with pytest.raises(ChunkError, match=says):
        message_to_chunk(message)


def test_instructions_survive_and_unknown_kinds_do_not() -> None:
    given_one = Instruction("stop", 3, InstructionKind.STOP, 1.5)
    message = instruction_to_message(given_one)
    assert message_to_instruction(message) == given_one
    message.kind = 9
    with pytest.raises(InstructionError, match="kind 9"):
        message_to_instruction(message)


def test_a_fixed_joint_that_is_reported_elsewhere_is_refused():
    fixed = replace(CONTRACT, joints=replace(CONTRACT.joints, fixed={"torso": 0.3}))
    home = CONTRACT.joints.home
    state = RobotState(home, np.zeros(7), 0.08, KINEMATICS.forward(home), 1.0)
    message = robot_state_to_joint_state(state, CONTRACT)
    joint_state_to_robot_state(message, fixed, KINEMATICS)  # not reported: the contract is believed
    names, positions, velocities = list(message.name), list(message.position), list(message.velocity)
    for position, sound in ((0.3, True), (0.309, True), (0.311, False), (0.0, False), (math.nan, False)):
        reported = JointState(name=[*names, "torso"], position=[*positions, position], velocity=[*velocities, 0.0])
        if sound:
            joint_state_to_robot_state(reported, fixed, KINEMATICS)
            continue
        with pytest.raises(JointReportError, match=r"torso.*expected \{'torso': 0.3\} within 0.01") as caught:
            joint_state_to_robot_state(reported, fixed, KINEMATICS)
        assert STATE_REASONS[caught.value.fault] is Reason.STATE_FIXED_JOINT


def test_every_fault_of_a_joint_state_has_a_reason_of_its_own():
    assert set(STATE_REASONS) == set(JointFault)
    assert len(set(STATE_REASONS.values())) == len(JointFault)


def _with_efforts(efforts: list[float]) -> RobotState:
    """A joint state with its names in another order than the contract's, and efforts of that order."""
    message = robot_state_to_joint_state(_state(), CONTRACT)
    message.name, message.position = message.name[::-1], message.position[::-1]
    message.velocity = message.velocity[::-1]
    message.effort = efforts
    return joint_state_to_robot_state(message, CONTRACT, KINEMATICS)


def test_efforts_are_mapped_by_name() -> None:
    count, fingers = CONTRACT.joints.count, len(CONTRACT.gripper.names)
    state = _with_efforts([float("nan")] * fingers + [float(i) for i in range(count)])
    assert state.joint_efforts is not None
    np.testing.assert_array_equal(state.joint_efforts, np.arange(count)[::-1])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_efforts_that_are_no_torques_are_not_reported(value: float) -> None:
    efforts = [0.0] * (CONTRACT.joints.count + len(CONTRACT.gripper.names))
    efforts[-1] = value  # of the first joint of the arm
    assert _with_efforts(efforts).joint_efforts is None
    assert _with_efforts([]).joint_efforts is None


def test_efforts_survive() -> None:
    state = replace(_state(), joint_efforts=np.linspace(-40.0, 40.0, CONTRACT.joints.count))
    again = joint_state_to_robot_state(robot_state_to_joint_state(state, CONTRACT), CONTRACT, KINEMATICS)
    np.testing.assert_array_equal(again.joint_efforts, state.joint_efforts)
