"""Messages become types and types become messages here, and nowhere else.

Images in rgb8 are viewed without a copy: the array shares the message's memory and keeps it alive.
"""

from __future__ import annotations

import array
from collections.abc import Mapping

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion
from geometry_msgs.msg import Pose as PoseMessage
from sensor_msgs.msg import Image, JointState

from vla_ros.errors import ChunkError, InstructionError, ObservationError
from vla_ros.msg import ActionChunk as ChunkMessage
from vla_ros.msg import Instruction as InstructionMessage
from vla_ros.msg import Observation as ObservationMessage
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import ActionChunk, ImageArray, Instruction, InstructionKind, Observation, Pose, RobotState

NANOSECONDS = 1_000_000_000

_CHANNELS = {"rgb8": (3, (0, 1, 2)), "bgr8": (3, (2, 1, 0)), "rgba8": (4, (0, 1, 2)), "bgra8": (4, (2, 1, 0)),
             "mono8": (1, (0, 0, 0))}  # fmt: skip
"""Encoding to (bytes a pixel, where R, G and B stand in it)."""


def stamp_to_seconds(stamp: Time) -> float:
    """Return a message's time in s."""
    return float(stamp.sec) + float(stamp.nanosec) / NANOSECONDS


def seconds_to_stamp(seconds: float) -> Time:
    """Return `seconds` (finite, not negative) as a message's time, to the nearest nanosecond.

    Raises:
        ValueError: when it is negative, not finite, or beyond what the message holds.
    """
    if not 0.0 <= seconds < 2**31:
        raise ValueError(f"a time of {seconds} s does not fit a stamp; expected 0 to 2^31 s")
    total = round(seconds * NANOSECONDS)
    return Time(sec=total // NANOSECONDS, nanosec=total % NANOSECONDS)


def image_to_array(message: Image) -> ImageArray:
    """Return the picture as (height, width, 3) uint8 RGB; rgb8 without a copy.

    Raises:
        ObservationError: for an encoding that is not known, a size of zero, or data that does not fit it.
    """
    if message.encoding not in _CHANNELS:
        raise ObservationError(
            f"image encoding '{message.encoding}' is not known; publish one of {sorted(_CHANNELS)}"
        )
    channels, order = _CHANNELS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if height < 1 or width < 1 or step < width * channels:
        raise ObservationError(
            f"image says {width} x {height}, {step} bytes a row; expected at least 1 x 1 and {width * channels} bytes"
        )
    data = np.frombuffer(message.data, dtype=np.uint8)
    if data.size != height * step:
        raise ObservationError(f"image has {data.size} bytes, expected {height} rows of {step}")
    rows = data.reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    return rows if message.encoding == "rgb8" else np.ascontiguousarray(rows[..., order])


def array_to_image(picture: ImageArray, stamp: float, frame_id: str) -> Image:
    """Return (height, width, 3) uint8 RGB as an rgb8 message; `stamp` in s."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ObservationError(f"got a picture {picture.shape} {picture.dtype}, expected (height, width, 3) uint8")
    message = Image(height=picture.shape[0], width=picture.shape[1], encoding="rgb8", step=3 * picture.shape[1])
    message.header.stamp = seconds_to_stamp(stamp)
    message.header.frame_id = frame_id
    message.data = array.array("B", picture.tobytes())  # assigning an array skips rclpy's check of every byte
    return message


def joint_state_to_robot_state(message: JointState, contract: RobotContract, kinematics: Kinematics) -> RobotState:
    """Return the state of the arm and the gripper, mapped by name: drivers order joints as they like.

    Raises:
        ObservationError: when a joint is missing or named twice, arrays are ragged, or a value is not finite.
    """
    names = list(message.name)
    if len(set(names)) != len(names):
        raise ObservationError(f"joint state names a joint twice: {names}")
    wanted = (*contract.joints.names, *contract.gripper.names)
    if missing := [name for name in wanted if name not in names]:
        raise ObservationError(f"joint state lacks {missing}; it has {names}")
    position = np.asarray(message.position, dtype=np.float64)
    velocity = np.asarray(message.velocity, dtype=np.float64)
    if position.size != len(names) or velocity.size != len(names):
        raise ObservationError(
            f"joint state has {len(names)} names, {position.size} positions and {velocity.size} velocities; "
            "expected one of each a joint"
        )
    place = {name: index for index, name in enumerate(names)}
    arm = [place[name] for name in contract.joints.names]
    fingers = [place[name] for name in contract.gripper.names]
    if not (np.isfinite(position[arm + fingers]).all() and np.isfinite(velocity[arm]).all()):
        raise ObservationError("joint state holds values that are not finite")
    return RobotState(
        joint_positions=position[arm],
        joint_velocities=velocity[arm],
        gripper_opening=float(position[fingers].sum()),
        end_effector=kinematics.forward(position[arm]),
        stamp=stamp_to_seconds(message.header.stamp),
    )


def robot_state_to_joint_state(state: RobotState, contract: RobotContract) -> JointState:
    """Return arm and fingers as a message; the fingers share the opening equally."""
    fingers = len(contract.gripper.names)
    message = JointState(
        name=[*contract.joints.names, *contract.gripper.names],
        position=[*state.joint_positions.tolist(), *([state.gripper_opening / fingers] * fingers)],
        velocity=[*state.joint_velocities.tolist(), *([0.0] * fingers)],
    )
    message.header.stamp = seconds_to_stamp(state.stamp)
    return message


def pose_to_message(pose: Pose) -> PoseMessage:
    """Return a pose as a message."""
    x, y, z = pose.position.tolist()
    qx, qy, qz, qw = pose.quaternion.tolist()
    return PoseMessage(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def message_to_pose(message: PoseMessage) -> Pose:
    """Return a message as a pose."""
    p, q = message.position, message.orientation
    return Pose(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))


def observation_to_message(observation: Observation, contract: RobotContract) -> ObservationMessage:
    """Return an observation as a message; its instruction travels on its own topic."""
    state = observation.state
    message = ObservationMessage(
        sequence=observation.sequence,
        camera_names=list(observation.images),
        images=[array_to_image(image, observation.stamp, name) for name, image in observation.images.items()],
        joint_names=list(contract.joints.names),
        joint_positions=state.joint_positions.tolist(),
        joint_velocities=state.joint_velocities.tolist(),
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
    """Return a message as an observation.

    Raises:
        ObservationError: when it is of another robot, ragged, or holds values that are not finite.
    """
    if tuple(message.joint_names) != contract.joints.names:
        raise ObservationError(
            f"observation is of joints {list(message.joint_names)}, the robot's are {list(contract.joints.names)}"
        )
    if len(message.camera_names) != len(message.images):
        raise ObservationError(f"observation names {len(message.camera_names)} cameras for {len(message.images)} images")
    stamp = stamp_to_seconds(message.header.stamp)
    state = RobotState(
        joint_positions=np.asarray(message.joint_positions, dtype=np.float64),
        joint_velocities=np.asarray(message.joint_velocities, dtype=np.float64),
        gripper_opening=float(message.gripper_opening),
        end_effector=message_to_pose(message.end_effector),
        stamp=stamp,
    )
    numbers = (state.joint_positions, state.joint_velocities, state.end_effector.position,
               state.end_effector.quaternion, [state.gripper_opening])  # fmt: skip
    if state.joint_positions.size != contract.joints.count or not all(np.isfinite(n).all() for n in numbers):
        raise ObservationError(f"observation {message.sequence}: proprioception is ragged or not finite")
    images: Mapping[str, ImageArray] = {
        str(name): image_to_array(image) for name, image in zip(message.camera_names, message.images, strict=True)
    }
    return Observation(images, state, instruction, stamp, int(message.sequence), float(message.skew))


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
