"""Converts between ROS messages and the package's types; no other module does.

rgb8 images are not copied: the array shares the message's memory and keeps it alive. Incoming messages are validated:
a wrong size or an invalid number raises the error of the package concerned.
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
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.joint_states.report import LARGEST_VALUE, JointReport, read_joint_report
from vla_ros.robot.sections.camera import CameraContract
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

if TYPE_CHECKING:  # imports pinocchio: 50 MB that most nodes converting messages do not need
    from vla_ros.robot.kinematics import Kinematics

NANOSECONDS = 1_000_000_000

JPEG_QUALITY = 95
"""JPEG quality of compressed images from a simulation, 0 to 100; the default of image_transport."""


def stamp_to_seconds(stamp: Time) -> float:
    """Return a message's time in s: the nearest float, exact to the nanosecond below 2^22 s (48 days).

    Floats are 0.24 us apart at the present wall clock time, so a real robot's stamp round-trips within 0.12 us.
    """
    return (int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)) / NANOSECONDS


def seconds_to_stamp(seconds: float) -> Time:
    """Return `seconds` (finite, not negative) as a message's time, to the nearest nanosecond.

    Raises:
        ValueError: when it is negative, not finite, or beyond the message's range.
    """
    if not 0.0 <= seconds < 2**31:
        raise ValueError(f"a time of {seconds} s does not fit a stamp; expected 0 to 2^31 s")
    whole = int(seconds)  # the rest is exact; seconds * 1e9 would lose 0.1 us of today's wall clock
    carry, nanosec = divmod(round((seconds - whole) * NANOSECONDS), NANOSECONDS)
    return Time(sec=whole + carry, nanosec=nanosec)


def image_to_array(message: Image, declared: str = "") -> ImageArray:
    """Return the image as (height, width, 3) uint8 RGB, read-only; rgb8 without a copy.

    Args:
        message: Image of a camera or of an observation.
        declared: Encoding that the contract declares; "" for none.

    Raises:
        ObservationError: see `decode_image`.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    return decode_image(
        message.data,
        message.encoding,
        height,
        width,
        step,
        big_endian=bool(message.is_bigendian),
        declared=declared,
    )


def camera_image_to_array(message: Image | CompressedImage, camera: CameraContract) -> ImageArray:
    """Return a camera's message as (height, width, 3) uint8 RGB, read-only.

    Raises:
        ObservationError: see `decode_image` and `decode_compressed`.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(message.data, message.format, camera.height, camera.width, declared=camera.encoding)
    return image_to_array(message, camera.encoding)


def camera_message_type(camera: CameraContract) -> type[Any]:
    """Return the message type of a camera's topic."""
    wanted: type[Any] = CompressedImage if camera.is_compressed else Image
    return wanted


def array_to_image(picture: ImageArray, stamp: float, frame_id: str) -> Image:
    """Return (height, width, 3) uint8 RGB as an rgb8 message; `stamp` in s.

    Raises:
        ObservationError: when the array has another shape or dtype.
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
    """Return (height, width, 3) uint8 RGB as JPEG, as image_transport's compressed plugin does; `stamp` in s."""
    import cv2  # only simulated cameras need it

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
    """Return bytes in the type that rclpy stores as is; it would check every element of bytes or a NumPy array."""
    data = array.array("B")
    data.frombytes(content)
    return data


def message_to_joint_report(message: JointState) -> JointReport:
    """Return a message's joint report, unchecked."""
    stamp = stamp_to_seconds(message.header.stamp)
    return JointReport(message.name, message.position, message.velocity, stamp, message.effort)


def joint_state_to_robot_state(message: JointState, contract: RobotContract, kinematics: Kinematics) -> RobotState:
    """Return the state of arms and grippers, mapped by name: the order of joints depends on the driver.

    Raises:
        ObservationError: see `read_joint_report`.
    """
    return read_joint_report(message_to_joint_report(message), contract).to_state(kinematics.forward)


def robot_state_to_joint_state(state: RobotState, contract: RobotContract) -> JointState:
    """Return joints and fingers as a message; finger velocities are 0, finger efforts NaN (not reported)."""
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
    """Return a message as a pose with a normalized quaternion.

    Raises:
        ObservationError: when a position is not finite or too large, or the quaternion's norm is not 1 within
            `UNIT_TOLERANCE`.
    """
    p, q = message.position, message.orientation
    position, quaternion = np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])
    if not (np.abs(position) <= LARGEST_VALUE).all():
        raise ObservationError(f"pose has the position {position} m, expected finite meters")
    norm = float(np.linalg.norm(np.clip(quaternion, -2.0, 2.0)))  # clipped: 1e300 squared would warn; NaN stays NaN
    if not abs(norm - 1.0) <= UNIT_TOLERANCE:
        raise ObservationError(f"pose has the quaternion {quaternion}, expected norm 1 within {UNIT_TOLERANCE}")
    return Pose(position, quaternion / norm)


def observed_joints(contract: RobotContract) -> tuple[str, ...]:
    """Return the joints of an observation message; with several arms the fingers follow the arms' joints."""
    fingers = contract.finger_names if len(contract.arms) > 1 else ()
    return (*contract.joints.names, *fingers)


def observation_to_message(
    observation: Observation, contract: RobotContract, stamps: Mapping[str, float] | None = None
) -> ObservationMessage:
    """Return an observation as a message; the instruction has its own topic.

    Args:
        observation: Images and proprioception.
        contract: Provides the names of joints and frames.
        stamps: Capture time of each camera's image, s; the observation's stamp where missing.
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
    """Return a message as an observation; its state is stamped with the observation's stamp.

    Raises:
        ObservationError: when it is of another robot, of inconsistent sizes, or holds invalid values.
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
    """Return the state in an observation message, stamped `stamp` s.

    Raises:
        ObservationError: when a number is missing, not finite or too large.
    """
    several, joints = len(contract.arms) > 1, observed_joints(contract)
    opening = [] if several else [float(message.gripper_opening)]  # of several arms the fingers are in the joints
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
    """Return a chunk as a message; the publisher sets the header's stamp."""
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
        ChunkError: when there are not horizon x width numbers, or one is not finite.
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
        InstructionError: for an unknown kind.
    """
    try:
        kind = InstructionKind(message.kind)
    except ValueError as error:
        raise InstructionError(f"instruction kind {message.kind} is not known") from error
    return Instruction(message.text, int(message.sequence), kind, stamp_to_seconds(message.header.stamp))
