"""Mirrors a step's images, measurements, action and instruction together, or raises.

The mirror plane is the robot's plane of symmetry, the xz plane of its base frame: S = diag(1, -1, 1). A position p maps
to S p; a rotation R maps to S R S, so an axial vector (a rotation vector, or the vector part (x, y, z) of a quaternion)
maps to (-x, y, -z). "Left" becomes "right". A camera whose view is symmetric about the plane sees its image flipped.
Whether a camera's view is symmetric is a property of the workcell, so it must be declared; a step with an image of any
other camera is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from vla_ros.actions.rotations import Rotation
from vla_ros.actions.space import ActionSpace
from vla_ros.data.errors import ConventionError, DataError
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES, Step
from vla_ros.types import FloatArray

_PLACE = (1.0, -1.0, 1.0)
_AXIAL = (-1.0, 1.0, -1.0)
_ROTATION = {
    Rotation.NONE: (),
    Rotation.ROTATION_VECTOR: _AXIAL,
    Rotation.QUATERNION: (*_AXIAL, 1.0),
    Rotation.QUATERNION_WXYZ: (1.0, *_AXIAL),
    Rotation.SIX_D: (1.0, -1.0, 1.0, -1.0, 1.0, -1.0),  # S R S: columns one and two of the matrix
}
_POSE = dict(zip(POSE_NAMES, (*_PLACE, *_AXIAL, 1.0), strict=True))

_ENDINGS = "|most|ward|wards|hand|-hand|handed|-handed|side"
_TURNS = {
    "clockwise": "counterclockwise",
    "counterclockwise": "clockwise",
    "anticlockwise": "clockwise",
    "counter-clockwise": "clockwise",
    "anti-clockwise": "clockwise",
}
_WORD = re.compile(rf"\b(left|right)({_ENDINGS})\b|\b(counter-?clockwise|anti-?clockwise|clockwise)\b", re.IGNORECASE)
_OTHER_MEANING = re.compile(
    r"\bleft (?:over|behind|alone|out|open|on|off)\b|\b(?:is|are|was|were|been|being|get|has|have|had|be) left\b(?! of)"
    r"|\bright (?:away|now|after|before|here|there|angle|angles|side up|one|tool|object|order|amount|way|place|again)\b"
    r"|\b(?:all|just|until it is|exactly) right\b",
    re.IGNORECASE,
)


class MirrorError(DataError):
    """A step has no mirror image that is known to be correct."""


@dataclass(frozen=True)
class MirrorPlane:
    """Mirror properties of a robot and its workcell.

    Attributes:
        frame: Frame whose xz plane is the plane of symmetry.
        cameras: Cameras whose view is symmetric about it.
        proprioception: Sign of each mirrored measurement by name, besides `POSE_NAMES` and the gripper, which are
            known: for an upright arm, joints that turn about the vertical get -1.
    """

    frame: str
    cameras: frozenset[str]
    proprioception: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if wrong := {name: sign for name, sign in self.proprioception.items() if sign not in (-1.0, 1.0)}:
            raise ConventionError(f"signs of a mirrored measurement are -1 or 1, got {wrong}")


def mirror(step: Step, plane: MirrorPlane) -> Step:
    """Return the mirror image of a step.

    Raises:
        MirrorError: when any part of it has no known mirror image.
    """
    frame = step.convention.only_motion.frame
    if frame != plane.frame:
        raise MirrorError(f"actions in the frame '{frame}' cannot be mirrored in that of '{plane.frame}'")
    if strange := sorted(set(step.images) - plane.cameras):
        raise MirrorError(f"the views of {strange} are not said to be symmetric; leave them out or do not mirror")
    return replace(
        step,
        images={camera: np.ascontiguousarray(image[:, ::-1]) for camera, image in step.images.items()},
        instruction=mirror_words(step.instruction),
        proprioception=step.proprioception * _signs(step.proprioception_names, plane),
        action=mirror_action(step.action, step.convention),
    )


def mirror_action(action: FloatArray, convention: ActionSpace) -> FloatArray:
    """Return mirrored actions (..., width); gripper columns are unchanged."""
    rotation, gripper = convention.only_motion.rotation, () if convention.only_gripper is None else (1.0,)
    if rotation not in _ROTATION:
        raise MirrorError(f"nothing says how the rotation '{rotation.value}' looks in the mirror")
    return np.asarray(action * np.array((*_PLACE, *_ROTATION[rotation], *gripper)))


def _signs(names: tuple[str, ...], plane: MirrorPlane) -> FloatArray:
    known = {**_POSE, GRIPPER_NAME: 1.0, "gripper_open": 1.0, **plane.proprioception}
    if unknown := [name for name in names if name not in known]:
        raise MirrorError(f"nothing says how the measurements {unknown} look in the mirror")
    return np.array([known[name] for name in names])


def mirror_words(sentence: str) -> str:
    """Return an English instruction with left and right swapped, and with them the turns about the vertical.

    Raises:
        MirrorError: when "left" or "right" may mean something else in it.
    """
    if other := _OTHER_MEANING.search(sentence):
        raise MirrorError(f"'{other.group()}' in '{sentence}' is perhaps no direction, so the sentence is not mirrored")
    return _WORD.sub(_exchanged, sentence)


def _exchanged(match: re.Match[str]) -> str:
    side, ending, turn = match.groups()
    word = _TURNS[turn.lower()] if turn else ("right" if side.lower() == "left" else "left") + (ending or "")
    given = match.group()
    return word.upper() if given.isupper() else word.capitalize() if given[0].isupper() else word
