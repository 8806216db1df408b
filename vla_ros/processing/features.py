"""Inputs and outputs of a policy: cameras, state columns, action columns, words. All widths are derived from them.

State columns are groups in the vocabulary of `ActionSpace`, all absolute: `arm/ee_pose` with its rotation form,
`arm/joint_position`, `arm/joint_velocity`, `arm/gripper`. Action columns are either continuous and normalized, or
binary: grippers with two commanded states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import ActionGroup, Quantity, Reference
from vla_ros.actions.legacy_specification import ONLY_ARM
from vla_ros.actions.rotations import Rotation
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ContractError

STATES = {
    GripperConvention.OPEN_IS_ONE: (0.0, 1.0),
    GripperConvention.CLOSED_IS_ONE: (0.0, 1.0),
    GripperConvention.OPEN_IS_PLUS: (-1.0, 1.0),
    GripperConvention.CLOSED_IS_PLUS: (-1.0, 1.0),
}
"""Values of a binary column for off and on, by the gripper conventions that command two states."""

MAX_WORDS, MAX_HISTORY = 4096, 64


class Fit(str, Enum):
    """How an image of another size is resized to the policy's."""

    SHRINK = "shrink"  # only from a larger one of the same aspect ratio: nothing is cropped, stretched or enlarged
    PAD = "pad"  # scaled to fit, padded with black
    STRETCH = "stretch"


@dataclass(frozen=True)
class CameraFeature:
    """One camera.

    Attributes:
        name: Name in the network.
        height: Height of the network's input image, pixels.
        width: Width of the network's input image, pixels.
        source: Name in the observation and in the dataset; "": the same as `name`.
        fit: How an image of another size is resized.
    """

    name: str
    height: int
    width: int
    source: str = ""
    fit: Fit = Fit.SHRINK

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", self.source or self.name)
        try:
            object.__setattr__(self, "fit", Fit(self.fit))
        except ValueError:
            known = ", ".join(fit.value for fit in Fit)
            raise ContractError(f"camera '{self.name}': fit is {self.fit!r}, expected {known}") from None
        if not self.name or self.height < 1 or self.width < 1:
            raise ContractError(
                f"camera {self.name!r} is {self.height} x {self.width} pixels, expected a name and positive sizes"
            )


def frame_name(camera: str, back: int) -> str:
    """Return the network's name of a camera's image, `back` action periods before the newest."""
    return camera if back == 0 else f"{camera}@{back}"


@dataclass(frozen=True)
class PolicyFeatures:
    """Inputs and outputs of a policy.

    Attributes:
        cameras: Cameras in the network's order.
        state: Groups of the state vector, in order.
        action: Action space of the chunks.
        words: Number of words that an instruction is padded to.
        history: Number of frames per network input, one action period apart, the newest last; see `history`.
        binary: Gripper groups predicted as one of two states; by default all whose convention allows it.
    """

    cameras: tuple[CameraFeature, ...]
    state: tuple[ActionGroup, ...]
    action: ActionSpace
    words: int
    history: int = 1
    binary: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("cameras", "state"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        able = tuple(group.name for group in self.action.groups if group.gripper in STATES)
        object.__setattr__(self, "binary", able if self.binary is None else tuple(self.binary))
        if strange := set(self.binary or ()) - set(able):
            raise ContractError(f"binary names {sorted(strange)}; of these grippers two states are commanded: {able}")
        for kind, names in (
            ("cameras", [camera.name for camera in self.cameras]),
            ("state groups", [group.name for group in self.state]),
        ):
            if len(set(names)) != len(names):
                raise ContractError(f"{kind} are {names}, expected each name once")
        if relative := [group.name for group in self.state if group.reference is not Reference.ABSOLUTE]:
            raise ContractError(f"state groups {relative} are differences, expected what can be measured")
        if not 0 <= self.words <= MAX_WORDS or not 1 <= self.history <= MAX_HISTORY:
            raise ContractError(
                f"words is {self.words} and history {self.history}, expected 0 to {MAX_WORDS} and 1 to {MAX_HISTORY}"
            )

    @property
    def state_width(self) -> int:
        """Number of state values of one frame."""
        return sum(group.width for group in self.state)

    @property
    def network_cameras(self) -> dict[str, tuple[int, int]]:
        """Size (height, width) of each network image by name: one per camera and frame of the history."""
        return {
            frame_name(camera.name, back): (camera.height, camera.width)
            for back in range(self.history)
            for camera in self.cameras
        }

    @property
    def network_state_width(self) -> int:
        """Number of state values of the network's input, over all frames of the history."""
        return self.history * self.state_width

    @property
    def continuous_columns(self) -> tuple[int, ...]:
        """Indices of the action columns that are normalized, in order."""
        taken = set(self.binary_columns)
        return tuple(column for column in range(self.action.width) if column not in taken)

    @property
    def binary_columns(self) -> tuple[int, ...]:
        """Indices of the action columns predicted as one of two states, in order."""
        return tuple(self.action.columns[group.name].start for group in self._binary_groups)

    @property
    def binary_states(self) -> tuple[tuple[float, float], ...]:
        """Values (off, on) of each binary column."""
        return tuple(STATES[group.gripper] for group in self._binary_groups)

    @property
    def rotation_columns(self) -> tuple[int, ...]:
        """Indices, among the continuous columns, of those that belong to tool rotations."""
        rotations = set()
        for group in self.action.groups:
            if group.quantity.of_tool:
                columns = self.action.columns[group.name]
                rotations |= set(range(columns.start + 3, columns.stop))
        return tuple(place for place, column in enumerate(self.continuous_columns) if column in rotations)

    @property
    def quaternion_columns(self) -> tuple[slice, ...]:
        """Action columns that hold a tool's quaternion."""
        return tuple(
            slice(self.action.columns[group.name].start + 3, self.action.columns[group.name].stop)
            for group in self.action.groups
            if group.rotation in (Rotation.QUATERNION, Rotation.QUATERNION_WXYZ)
        )

    @property
    def tool_columns(self) -> slice | None:
        """Columns of the state with the first tool's position; None if it has none."""
        start = 0
        for group in self.state:
            if group.quantity is Quantity.EE_POSE:
                return slice(start, start + 3)
            start += group.width
        return None

    @property
    def _binary_groups(self) -> list[ActionGroup]:
        return [group for group in self.action.groups if group.name in (self.binary or ())]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as stored in a checkpoint."""
        return {
            "cameras": [
                {"name": c.name, "height": c.height, "width": c.width, "source": c.source, "fit": c.fit.value}
                for c in self.cameras
            ],
            "state": [group.to_dict() for group in self.state],
            "action": self.action.to_dict(),
            "words": self.words,
            "history": self.history,
            "binary": list(self.binary or ()),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PolicyFeatures:
        """Read the values written by `to_dict`.

        Raises:
            ContractError: when a line is missing or invalid.
        """
        try:
            return cls(
                cameras=tuple(CameraFeature(**camera) for camera in values["cameras"]),
                state=tuple(ActionGroup.from_dict(group) for group in values["state"]),
                action=ActionSpace.from_dict(values["action"]),
                words=int(values["words"]),
                history=int(values["history"]),
                binary=tuple(str(name) for name in values["binary"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"features: {type(error).__name__}: {error}") from error


def tool_state(action: ActionSpace) -> tuple[ActionGroup, ...]:
    """Return the state of one arm commanded in tool space: position, rotation as six_d, opening in m."""
    frame = next((group.frame for group in action.groups if group.quantity is Quantity.EE_POSE), "")
    frame = frame or next((group.frame for group in action.groups if group.frame not in ("", "tool")), "base")
    return (
        ActionGroup(ONLY_ARM, Quantity.EE_POSE, frame=frame, rotation=Rotation.SIX_D),
        ActionGroup(ONLY_ARM, Quantity.GRIPPER, gripper=GripperConvention.OPENING),
    )


def joint_state(action: ActionSpace) -> tuple[ActionGroup, ...]:
    """Return the state of arms commanded in joint space: joints and gripper in the action space's conventions."""
    state = []
    for arm in action.arms:
        motion, gripper = action.motion(arm), action.gripper(arm)
        state.append(
            ActionGroup(
                arm, Quantity.JOINT_POSITION, joints=motion.joints, unit=motion.unit, low=motion.low, high=motion.high
            )
            if motion.quantity is Quantity.JOINT_POSITION
            else ActionGroup(arm, Quantity.JOINT_POSITION, joints=motion.joints)
        )
        if gripper is not None:
            state.append(gripper)
    return tuple(state)


def default_state(action: ActionSpace) -> tuple[ActionGroup, ...]:
    """Return the default state columns for an action space.

    Raises:
        ContractError: for several arms commanded in tool space, whose state must be named.
    """
    if action.of_joints:
        return joint_state(action)
    if action.arms == (ONLY_ARM,):
        return tool_state(action)
    raise ContractError(f"arms {list(action.arms)} are commanded at their tools: name the groups of the state")
