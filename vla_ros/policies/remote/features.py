"""Inputs and outputs of a policy server: keys of cameras, states and instruction, and keys of its answer.

A policy's YAML file and the metadata of `vla-ros serve` have the same lines. Cameras are named on both sides, never
matched by position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from vla_ros.actions.groups import ActionGroup, Reference
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ContractError, ObservationError
from vla_ros.processing.features import CameraFeature, Fit
from vla_ros.processing.images import fit_image
from vla_ros.processing.state import observed_arms, state_values
from vla_ros.robot.sections.arm import ArmContract
from vla_ros.types import FloatArray, ImageArray, Observation

Key = tuple[str, ...]
"""Path of names to a value in nested mappings; most servers have one level."""

MAX_CAMERAS, MAX_STATES, MAX_SIDE = 16, 32, 4096


class Layout(str, Enum):
    """Axis order of an image on the wire."""

    HWC = "hwc"
    CHW = "chw"


@dataclass(frozen=True)
class RemoteCamera:
    """One camera: key, size and layout of its image in the request."""

    key: Key
    feature: CameraFeature
    layout: Layout = Layout.HWC

    def image(self, images: Mapping[str, ImageArray]) -> ImageArray:
        """Return the image for the server, uint8.

        Raises:
            ObservationError: when the camera is missing, or its image cannot be resized.
        """
        source = self.feature.source
        if source not in images:
            raise ObservationError(f"the policy needs camera '{source}', the observation has {[*images]}")
        image = fit_image(images[source], self.feature)
        return image.transpose(2, 0, 1) if self.layout is Layout.CHW else image


@dataclass(frozen=True)
class RemoteState:
    """One state vector: its key in the request, and the groups of its columns."""

    key: Key
    groups: tuple[ActionGroup, ...]

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(group.width for group in self.groups)


@dataclass(frozen=True)
class RemoteFeatures:
    """Inputs and outputs of a policy server.

    Attributes:
        cameras: Images in the request.
        states: State vectors in the request.
        prompt: Key of the instruction.
        action: Action space of its chunks.
        action_key: Key of the chunk in the answer.
        reset: Key of the flag that marks the first request of an instruction or connection; None: no such flag.
        confidence_key: Key of the confidence, 0 to 1, in the answer; None: it has none.
        robot: Lines of the robot contract that it was trained for, such as `joints.names`.
    """

    cameras: tuple[RemoteCamera, ...]
    states: tuple[RemoteState, ...]
    prompt: Key
    action: ActionSpace
    action_key: str = "actions"
    reset: Key | None = None
    confidence_key: str | None = None
    robot: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [camera.key for camera in self.cameras] + [state.key for state in self.states] + [self.prompt]
        keys += [] if self.reset is None else [self.reset]
        for one in keys:
            clashes = [other for other in keys if other[: len(one)] == one]
            if len(clashes) != 1:
                raise ContractError(f"the key {list(one)} stands twice, or has others below it; expected each key once")
        if len(self.cameras) > MAX_CAMERAS or len(self.states) > MAX_STATES:
            raise ContractError(f"expected at most {MAX_CAMERAS} cameras and {MAX_STATES} states")
        if relative := [g.name for s in self.states for g in s.groups if g.reference is not Reference.ABSOLUTE]:
            raise ContractError(f"state groups {relative} are differences, expected what can be measured")

    def observation(
        self, observation: Observation, instruction: str, robot: Sequence[ArmContract], *, first: bool
    ) -> dict[str, Any]:
        """Return the request for an observation.

        Args:
            observation: Observation of the robot.
            instruction: Instruction to follow.
            robot: The robot's arms.
            first: Whether it is the first request of an instruction or of a connection.

        Raises:
            ObservationError: naming what is missing, or what cannot be resized.
        """
        request: dict[str, Any] = {}
        for camera in self.cameras:
            _put(request, camera.key, np.ascontiguousarray(camera.image(observation.images)))
        arms = observed_arms(observation, self.arms, robot)
        for state in self.states:
            _put(request, state.key, state_values(state.groups, arms))
        _put(request, self.prompt, instruction)
        if self.reset is not None:
            _put(request, self.reset, first)
        return request

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms whose state the server needs."""
        return tuple(dict.fromkeys(group.arm for state in self.states for group in state.groups))

    @property
    def request_bytes(self) -> int:
        """Size of the images and states of one request, bytes."""
        pixels = sum(3 * camera.feature.height * camera.feature.width for camera in self.cameras)
        return pixels + 8 * sum(state.width for state in self.states)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as in YAML and in a server's metadata."""
        observation: dict[str, Any] = {
            "cameras": {one.feature.source: _camera_lines(one) for one in self.cameras},
            "states": [{"key": list(s.key), "groups": [g.to_dict() for g in s.groups]} for s in self.states],
            "prompt": list(self.prompt),
        }
        if self.reset is not None:
            observation["reset"] = list(self.reset)
        action = {"key": self.action_key, **self.action.to_dict()}
        if self.confidence_key is not None:
            action["confidence"] = self.confidence_key
        return {"observation": observation, "action": action, "robot": dict(self.robot)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RemoteFeatures:
        """Read plain values.

        Raises:
            ContractError: naming the line that is missing, unknown or invalid.
        """
        seen = lines(values, "observation", needed=("cameras", "states", "prompt"), allowed=("reset",))
        acts = lines(values, "action", needed=("groups", "rate_hz", "horizon"), allowed=("key", "confidence"))
        robot = values.get("robot", {})
        if not isinstance(robot, Mapping):
            raise ContractError(f"robot is {robot!r}, expected lines of a robot contract, such as joints.names")
        space = {line: acts[line] for line in ("groups", "rate_hz", "horizon")}
        return cls(
            cameras=_cameras(seen["cameras"]),
            states=_states(seen["states"]),
            prompt=_key(seen["prompt"], "observation.prompt"),
            action=ActionSpace.from_dict(space),
            action_key=_name(acts.get("key", "actions"), "action.key"),
            reset=_key(seen["reset"], "observation.reset") if "reset" in seen else None,
            confidence_key=_name(acts["confidence"], "action.confidence") if "confidence" in acts else None,
            robot=dict(robot),
        )


def lines(
    values: Mapping[str, Any], section: str, needed: tuple[str, ...], allowed: tuple[str, ...] = ()
) -> Mapping[str, Any]:
    """Return a section of plain values after checking its lines.

    Raises:
        ContractError: naming what is missing or unknown.
    """
    found = values.get(section)
    if not isinstance(found, Mapping):
        raise ContractError(f"{section} is {str(found)[:80]!r}, expected lines {', '.join(needed)}")
    check_lines(found, section, needed, allowed)
    return found


def check_lines(values: Mapping[str, Any], where: str, needed: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    """Check that no line is missing or unknown.

    Raises:
        ContractError: naming them.
    """
    missing, unknown = set(needed) - set(values), set(values) - {*needed, *allowed}
    if missing or unknown:
        raise ContractError(
            f"{where}: missing {sorted(missing)}, unknown {sorted(map(str, unknown))}; "
            f"expected {list(needed)}, and possibly {list(allowed)}"
        )


def _camera_lines(camera: RemoteCamera) -> dict[str, Any]:
    size = {"height": camera.feature.height, "width": camera.feature.width}
    return {"key": list(camera.key), **size, "fit": camera.feature.fit.value, "layout": camera.layout.value}


def _cameras(values: object) -> tuple[RemoteCamera, ...]:
    where = "observation.cameras"
    if not isinstance(values, Mapping):
        raise ContractError(f"{where} is {str(values)[:80]!r}, expected the robot's cameras by name")
    cameras = []
    for name, one in values.items():
        if not isinstance(one, Mapping):
            raise ContractError(f"{where}.{name} is {str(one)[:80]!r}, expected key, height and width")
        check_lines(one, f"{where}.{name}", ("key", "height", "width"), ("fit", "layout"))
        height, width = one["height"], one["width"]
        if not all(type(side) is int and 1 <= side <= MAX_SIDE for side in (height, width)):
            raise ContractError(f"{where}.{name}: {height!r} x {width!r} pixels, expected 1 to {MAX_SIDE}")
        key = _key(one["key"], f"{where}.{name}.key")
        try:
            layout = Layout(one.get("layout", "hwc"))
        except ValueError:
            raise ContractError(f"{where}.{name}: layout is {one['layout']!r}, expected hwc or chw") from None
        feature = CameraFeature(".".join(key), height, width, _name(name, where), one.get("fit", Fit.PAD))
        cameras.append(RemoteCamera(key, feature, layout))
    return tuple(cameras)


def _states(values: object) -> tuple[RemoteState, ...]:
    where = "observation.states"
    if not isinstance(values, list) or not all(isinstance(one, Mapping) for one in values):
        raise ContractError(f"{where} is {str(values)[:80]!r}, expected a list of key and groups")
    states = []
    for place, one in enumerate(values):
        check_lines(one, f"{where}[{place}]", ("key", "groups"), ())
        groups = one["groups"]
        if not isinstance(groups, list) or not groups or not all(isinstance(group, Mapping) for group in groups):
            raise ContractError(f"{where}[{place}].groups is {str(groups)[:80]!r}, expected a list of mappings")
        key = _key(one["key"], f"{where}[{place}].key")
        states.append(RemoteState(key, tuple(ActionGroup.from_dict(group) for group in groups)))
    return tuple(states)


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 128:
        raise ContractError(f"{where}: got {str(value)[:80]!r}, expected a name of at most 128 characters")
    return value


def _key(value: object, where: str) -> Key:
    names = value if isinstance(value, list) else [value]
    if not 1 <= len(names) <= 4:
        raise ContractError(f"{where}: got {str(value)[:80]!r}, expected a key, or a list of up to 4 nested ones")
    return tuple(_name(name, where) for name in names)


def _put(request: dict[str, Any], key: Key, value: FloatArray | ImageArray | str | bool) -> None:
    for name in key[:-1]:
        request = request.setdefault(name, {})
    request[key[-1]] = value


def get(values: Mapping[str, Any], key: Key) -> Any:  # noqa: ANN401 (whatever a message holds)
    """Return the value at a key of a message; None if there is none."""
    found: Any = values
    for name in key:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found
