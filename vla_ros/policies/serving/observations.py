"""Request format of `vla-ros serve`: a policy's features as message keys, and requests parsed to observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import ActionGroup, Quantity
from vla_ros.actions.legacy_specification import ONLY_ARM
from vla_ros.actions.rotations import Rotation
from vla_ros.errors import InstructionError, ObservationError
from vla_ros.policies.fit import robot_lines
from vla_ros.policies.protocol import Policy
from vla_ros.policies.remote.features import Key, Layout, RemoteCamera, RemoteFeatures, RemoteState, get
from vla_ros.processing.features import CameraFeature, Fit
from vla_ros.robot.contract import RobotContract
from vla_ros.types import UNIT_TOLERANCE, FloatArray, ImageArray, Instruction, Observation, Pose, RobotState

JOINT_POSITIONS: Key = ("observation/joint_position",)
JOINT_VELOCITIES: Key = ("observation/joint_velocity",)
TOOL_POSE: Key = ("observation/ee_pose",)
GRIPPER: Key = ("observation/gripper",)
PROMPT: Key = ("prompt",)
RESET: Key = ("reset",)
ACTIONS, CONFIDENCE = "actions", "confidence"
MAX_PROMPT_LENGTH = 1000


def served_features(policy: Policy, contract: RobotContract) -> RemoteFeatures:
    """Return the inputs and outputs of a policy, loaded for a robot, as sent over the network."""
    cameras = [
        RemoteCamera((f"observation/{name}",), CameraFeature(f"observation/{name}", height, width, name, Fit.SHRINK))
        for name, (height, width) in policy.image_sizes.items()
    ]
    count, frame = contract.joints.count, contract.base_frame
    groups = {
        JOINT_POSITIONS: ActionGroup(ONLY_ARM, Quantity.JOINT_POSITION, joints=count),
        JOINT_VELOCITIES: ActionGroup(ONLY_ARM, Quantity.JOINT_VELOCITY, joints=count),
        TOOL_POSE: ActionGroup(ONLY_ARM, Quantity.EE_POSE, frame=frame, rotation=Rotation.QUATERNION),
        GRIPPER: ActionGroup(ONLY_ARM, Quantity.GRIPPER, gripper=GripperConvention.OPENING),
    }
    return RemoteFeatures(
        cameras=tuple(cameras),
        states=tuple(RemoteState(key, (group,)) for key, group in groups.items()),
        prompt=PROMPT,
        action=policy.specification,
        action_key=ACTIONS,
        reset=RESET,
        confidence_key=CONFIDENCE,
        robot=robot_lines(contract),
    )


def read_request(values: Mapping[str, Any], features: RemoteFeatures, stamp: float) -> Observation:
    """Parse a request to an observation; see `served_features`.

    Args:
        values: Content of the message.
        features: Features of the served policy.
        stamp: Time of its arrival, s, on the server's steady clock.

    Raises:
        ObservationError: naming a key that is missing, or has another shape or type.
        InstructionError: when there is no usable instruction.
    """
    images = {camera.feature.source: _image(values, camera) for camera in features.cameras}
    states = {state.key: _state(values, state) for state in features.states}
    pose = states[TOOL_POSE]
    if not abs(float(np.linalg.norm(pose[3:])) - 1.0) <= UNIT_TOLERANCE:
        raise ObservationError(f"{TOOL_POSE[0]}: the quaternion has norm {np.linalg.norm(pose[3:]):.4g}, expected 1")
    state = RobotState(
        states[JOINT_POSITIONS], states[JOINT_VELOCITIES], float(states[GRIPPER][0]), Pose(pose[:3], pose[3:]), stamp
    )
    prompt = get(values, features.prompt)
    if not isinstance(prompt, str) or not 0 < len(prompt.strip()) <= MAX_PROMPT_LENGTH:
        raise InstructionError(
            f"{'.'.join(features.prompt)} is {str(prompt)[:40]!r}, expected text of 1 to {MAX_PROMPT_LENGTH} characters"
        )
    return Observation(images, state, Instruction(prompt), stamp)


def _image(values: Mapping[str, Any], camera: RemoteCamera) -> ImageArray:
    feature, image = camera.feature, get(values, camera.key)
    size = (feature.height, feature.width)
    shape = (3, *size) if camera.layout is Layout.CHW else (*size, 3)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != shape:
        raise ObservationError(f"{'.'.join(camera.key)}: got {_described(image)}, expected uint8 {shape}")
    return image.transpose(1, 2, 0) if camera.layout is Layout.CHW else image


def _state(values: Mapping[str, Any], state: RemoteState) -> FloatArray:
    found = get(values, state.key)
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu" or found.shape != (state.width,):
        raise ObservationError(f"{'.'.join(state.key)}: got {_described(found)}, expected {state.width} numbers")
    numbers = np.asarray(found, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ObservationError(f"{'.'.join(state.key)}: {int((~np.isfinite(numbers)).sum())} values are not finite")
    return numbers


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return "nothing" if value is None else f"a {type(value).__name__}"
