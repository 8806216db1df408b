"""Messages become types and types become messages here, and nowhere else.

Images in rgb8 are viewed without a copy: the array shares the message's memory and keeps it alive. Nothing that comes
in is believed: what does not have the promised size, or holds numbers that cannot be, raises the room's own error.
"""

from __future__ import annotations

import array
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion
from geometry_msgs.msg import Pose as PoseMessage
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_ros.errors import ChunkError, InstructionError, ObservationError
from vla_ros.msg import ActionChunk as ChunkMessage
from vla_ros.msg import Instruction as InstructionMessage
from vla_ros.msg import Observation as ObservationMessage
from vla_ros.perception.compressed import decode_compressed
from vla_ros.perception.decoding import decode_image
from vla_ros.robot.camera_contract import CameraContract
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.joint_report import LARGEST_VALUE, JointReport, read_joint_report
from vla_ros.types import (
    UNIT_TOLERANCE,
    ActionChunk,
    ImageArray,
    Instruction,
    InstructionKind,
    Observation,
    Pose,
    RobotState,
)

if TYPE_CHECKING:  # pinocchio comes with it: 50 MB, of which most nodes that convert messages use nothing
    from vla_ros.robot.kinematics import Kinematics

NANOSECONDS = 1_000_000_000

JPEG_QUALITY = 95
"""Of compressed images that a simulation sends, 0 to 100; image_transport's own default."""


def stamp_to_seconds(stamp: Time) -> float:
    """Return a message's time in s: the float nearest to it, exact to the nanosecond below 2^22 s (48 days).

    Floats lie 0.24 us apart where the wall clock is now, so a stamp of a real robot comes back within 0.12 us.
    """
    return (int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)) / NANOSECONDS


def seconds_to_stamp(seconds: float) -> Time:
    """Return `seconds` (finite, not negative) as a message's time, to the nearest nanosecond.

    Raises:
        ValueError: when it is negative, not finite, or beyond what the message holds.
    """
    if not 0.0 <= seconds < 2**31:
        raise ValueError(f"a time of {seconds} s does not fit a stamp; expected 0 to 2^31 s")
    whole = int(seconds)  # the rest is exact; seconds * 1e9 would lose 0.1 us of today's wall clock
    carry, nanosec = divmod(round((seconds - whole) * NANOSECONDS), NANOSECONDS)
    return Time(sec=whole + carry, nanosec=nanosec)


def image_to_array(message: Image, declared: str = "") -> ImageArray:
    """Return the picture as (height, width, 3) uint8 RGB, read-only; rgb8 without a copy.

    Args:
        message: Of a camera, or of an observation.
        declared: Encoding that the contract says; "": nothing.

    Raises:
        ObservationError: see `decode_image`.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    return decode_image(
        message.data, message.encoding, height, width, step,
        big_endian=bool(message.is_bigendian), declared=declared,
    )  # fmt: skip


def camera_image_to_array(message: Image | CompressedImage, camera: CameraContract) -> ImageArray:
    """Return what a camera sent as (height, width, 3) uint8 RGB, read-only.

    Raises:
        ObservationError: see `decode_image` and `decode_compressed`.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(message.data, message.format, camera.height, camera.width, declared=camera.encoding)
    return image_to_array(message, camera.encoding)


def camera_message_type(camera: CameraContract) -> type[Any]:
    """Return the type of the messages on a camera's topic."""
    wanted: type[Any] = CompressedImage if camera.is_compressed else Image
    return wanted


def array_to_image(picture: ImageArray, stamp: float, frame_id: str) -> Image:
    """Return (height, width, 3) uint8 RGB as an rgb8 message; `stamp` in s.

    Raises:
        ObservationError: when it is no such array.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise ObservationError(f"got a picture {picture.shape} {picture.dtype}, expected (height, width, 3) uint8")
    height, width = picture.shape[:2]
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp = seconds_to_stamp(stamp)
    message.header.frame_id = frame_id
    message.data = _as_array(np.ascontiguousarray(picture).data.cast("B"))
    return message


def array_to_compressed_image(picture: ImageArray, stamp: float, frame_id: str) -> CompressedImage:
    """Return (height, width, 3) uint8 RGB as a JPEG, as image_transport's compressed plugin sends it; `stamp` in s."""
    import cv2  # for a simulated camera alone

    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    coded, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)
    if not coded:
        raise ObservationError(f"a picture {picture.shape} {picture.dtype} cannot be coded as JPEG")
    message = CompressedImage(format="rgb8; jpeg compressed bgr8")
    message.header.stamp = seconds_to_stamp(stamp)
    message.header.frame_id = frame_id
    message.data = _as_array(content.data)
    return message


def _as_array(content: memoryview) -> array.array[int]:
    """Return bytes as rclpy takes them as they are; of bytes or a NumPy array it would look at every element."""
    data = array.array("B")
    data.frombytes(content)
    return data


def message_to_joint_report(message: JointState) -> JointReport:
    """Return what a message says about joints, unchecked."""
    stamp = stamp_to_seconds(message.header.stamp)
    return JointReport(message.name, message.position, message.velocity, stamp, message.effort)


def joint_state_to_robot_state(message: JointState, contract: RobotContract, kinematics: Kinematics) -> RobotState:
    """Return the state of the arm and the gripper, mapped by name: drivers order joints as they like.

    Raises:
        ObservationError: see `read_joint_report`.
    """
    return read_joint_report(message_to_joint_report(message), contract).to_state(kinematics.forward)


def robot_state_to_joint_state(state: RobotState, contract: RobotContract) -> JointState:
    """Return arm and fingers as a message; the fingers are said to be at rest; their effort is NaN: not reported."""
    fingers = contract.finger_positions(state.gripper_openings)
    message = JointState(
        name=[*contract.joints.names, *contract.finger_names],
        position=[*state.joint_positions.tolist(), *fingers],
        velocity=[*state.joint_velocities.tolist(), *([0.0] * len(fingers))],
    )
    if state.joint_efforts is not None:
        message.effort = [*state.joint_efforts.tolist(), *([math.nan] * len(fingers))]
    message.header.stamp = seconds_to_stamp(state.stamp)
    return message


def pose_to_message(pose: Pose) -> PoseMessage:
    """Return a pose as a message."""
    x, y, z = pose.position.tolist()
    qx, qy, qz, qw = pose.quaternion.tolist()
    return PoseMessage(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def message_to_pose(message: PoseMessage) -> Pose:
    """Return a message as a pose, its quaternion normalised.

    Raises:
        ObservationError: when a value is not finite or absurd, or the quaternion not a unit one within 1e-3.
    """
    p, q = message.position, message.orientation
    position, quaternion = np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])
    if not (np.abs(position) <= LARGEST_VALUE).all():
        raise ObservationError(f"pose has the position {position} m, expected finite metres")
    norm = float(np.linalg.norm(np.clip(quaternion, -2.0, 2.0)))  # clipped: 1e300 squared would warn; NaN stays NaN
    if not abs(norm - 1.0) <= UNIT_TOLERANCE:
        raise ObservationError(f"pose has the quaternion {quaternion}, expected norm 1 within {UNIT_TOLERANCE}")
    return Pose(position, quaternion / norm)


def observed_joints(contract: RobotContract) -> tuple[str, ...]:
    """Return the joints of an observation message: of several arms the fingers are among them, behind all others."""
    fingers = contract.finger_names if len(contract.arms) > 1 else ()
    return (*contract.joints.names, *fingers)


def observation_to_message(
    observation: Observation, contract: RobotContract, stamps: Mapping[str, float] | None = None
) -> ObservationMessage:
    """Return an observation as a message; its instruction travels on its own topic.

    Args:
        observation: Pictures and proprioception.
        contract: Gives the names of joints and frames.
        stamps: When each camera took its picture, s; the observation's stamp where it is not said.
    """
    state, taken, joints = observation.state, stamps or {}, observed_joints(contract)
    fingers = contract.finger_positions(state.gripper_openings)[: len(joints) - contract.joints.count]
    message = ObservationMessage(
        sequence=observation.sequence,
        camera_names=list(observation.images),
        images=[
            array_to_image(image, taken.get(name, observation.stamp), contract.camera(name).frame)
            for name, image in observation.images.items()
        ],
        joint_names=list(joints),
        joint_positions=[*state.joint_positions.tolist(), *fingers],
        joint_velocities=[*state.joint_velocities.tolist(), *([0.0] * len(fingers))],
        gripper_opening=state.gripper_opening,
        end_effector=pose_to_message(state.end_effector),
        skew=observation.skew,
    )
    message.header.stamp = seconds_to_stamp(observation.stamp)
    message.header.frame_id = contract.base_frame
    return message


def message_to_observation(
    message: ObservationMessage, contract: RobotContract, instruction: Instruction | None = None
) -> Observation:
    """Return a message as an observation; the state counts as measured at the observation's stamp.

    Raises:
        ObservationError: when it is of another robot, ragged, or holds values that cannot be.
    """
    where = f"observation {message.sequence}"
    if tuple(message.joint_names) != (joints := observed_joints(contract)):
        raise ObservationError(f"{where} is of joints {list(message.joint_names)}, the robot's are {list(joints)}")
    cameras = {camera.name: (camera.policy_height, camera.policy_width) for camera in contract.cameras}
    if sorted(message.camera_names) != sorted(cameras) or len(message.images) != len(cameras):
        raise ObservationError(
            f"{where} has {len(message.images)} images of cameras {list(message.camera_names)}, expected one each of "
            f"{list(cameras)}"
        )
    images = {name: image_to_array(image) for name, image in zip(message.camera_names, message.images, strict=True)}
    for name, image in images.items():
        if image.shape[:2] != cameras[name]:
            raise ObservationError(
                f"{where}: camera '{name}' has (height, width) {image.shape[:2]}, expected {cameras[name]}"
            )
    stamp = stamp_to_seconds(message.header.stamp)
    state = _observed_state(message, contract, stamp, where)
    return Observation(images, state, instruction, stamp, int(message.sequence), float(message.skew))


def _observed_state(message: ObservationMessage, contract: RobotContract, stamp: float, where: str) -> RobotState:
    """Return the state that an observation has, measured at `stamp` s.

    Raises:
        ObservationError: when a number is missing, not finite or too large.
    """
    several, joints = len(contract.arms) > 1, observed_joints(contract)
    opening = [] if several else [float(message.gripper_opening)]  # of several the fingers are among the joints
    numbers = np.array([*message.joint_positions, *message.joint_velocities, *opening, float(message.skew)])
    if numbers.size != 2 * len(joints) + len(opening) + 1 or not (np.abs(numbers) <= LARGEST_VALUE).all():
        raise ObservationError(
            f"{where}: expected {len(joints)} positions and velocities,{'' if several else ' an opening'} and a skew, "
            f"each finite and at most {LARGEST_VALUE:g}; got {numbers}"
        )
    positions, velocities = numbers[: 2 * len(joints)].reshape(2, len(joints))
    if several:
        n = contract.joints.count
        return RobotState.of_arms(positions[:n], velocities[:n], contract.openings(positions[n:].tolist()), stamp)
    return RobotState(positions, velocities, opening[0], message_to_pose(message.end_effector), stamp)


def chunk_to_message(chunk: ActionChunk) -> ChunkMessage:
    """Return a chunk as a message; the header's stamp is left to the sender."""
    return ChunkMessage(
        observation_stamp=seconds_to_stamp(chunk.observation_stamp),
        observation_sequence=chunk.observation_sequence,
        instruction_sequence=chunk.instruction_sequence,
        sequence=chunk.sequence,
        policy=chunk.policy[:64],
        action_specification=chunk.specification,
        horizon=chunk.horizon,
        width=chunk.width,
        period=chunk.period,
        actions=chunk.actions.ravel().tolist(),
        trust=chunk.trust,
    )


def message_to_chunk(message: ChunkMessage) -> ActionChunk:
    """Return a message as a chunk.

    Raises:
        ChunkError: when the table does not have horizon x width numbers, or one is not finite.
    """
    actions = np.asarray(message.actions, dtype=np.float64)
    if message.horizon < 1 or message.width < 1 or actions.size != message.horizon * message.width:
        raise ChunkError(
            f"chunk has {actions.size} numbers, expected {message.horizon} rows of {message.width} (at least 1 x 1)"
        )
    return ActionChunk(
        actions=actions.reshape(message.horizon, message.width),
        period=float(message.period),
        observation_stamp=stamp_to_seconds(message.observation_stamp),
        specification=message.action_specification,
        observation_sequence=int(message.observation_sequence),
        instruction_sequence=int(message.instruction_sequence),
        policy=message.policy,
        trust=float(message.trust),
        sequence=int(message.sequence),
    )


def instruction_to_message(instruction: Instruction) -> InstructionMessage:
    """Return an instruction as a message."""
    message = InstructionMessage(sequence=instruction.sequence, kind=int(instruction.kind), text=instruction.text)
    message.header.stamp = seconds_to_stamp(instruction.stamp)
    return message


def message_to_instruction(message: InstructionMessage) -> Instruction:
    """Return a message as an instruction.

    Raises:
        InstructionError: for a kind that is not known.
    """
    try:
        kind = InstructionKind(message.kind)
    except ValueError as error:
        raise InstructionError(f"instruction kind {message.kind} is not known") from error
    return Instruction(message.text, int(message.sequence), kind, stamp_to_seconds(message.header.stamp))
