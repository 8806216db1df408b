"""Positions of the joints that the arm does not move: the gripper's, their mimic joints, and the fixed ones.

A joint of unknown position is an error: assuming zero would misplace everything it carries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from xml.etree import ElementTree

import numpy as np
import pinocchio

from vla_ros.errors import ContractError
from vla_ros.robot.contract import RobotContract
from vla_ros.types import FloatArray

ROUNDING = 1e-9
"""Tolerance of the check of a position against the description's limits, rad or m."""


@dataclass(frozen=True)
class Mimic:
    """Mimic joint: its position is `multiplier` times that of `leader`, plus `offset` (rad or m)."""

    leader: str
    multiplier: float
    offset: float


@lru_cache(maxsize=8)
def described_mimics(urdf: str) -> Mapping[str, Mimic]:
    """Return the mimic joints of a URDF text: name to its <mimic>.

    Raises:
        ContractError: when the text is not XML, or a value is not finite.
    """
    try:
        root = ElementTree.fromstring(urdf)
        mimics = {
            str(joint.get("name")): Mimic(
                str(mimic.get("joint")), float(mimic.get("multiplier", 1.0)), float(mimic.get("offset", 0.0))
            )
            for joint in root.iter("joint")
            if (mimic := joint.find("mimic")) is not None
        }
    except (ElementTree.ParseError, ValueError) as error:
        raise ContractError(f"the robot description cannot be read: {error}") from error
    for name, one in mimics.items():
        if not np.isfinite([one.multiplier, one.offset]).all():
            raise ContractError(f"joint '{name}' of the robot description: its <mimic> is not finite")
    return mimics


def locked_joints(model: pinocchio.Model, contract: RobotContract) -> list[int]:
    """Return the indices of the joints of a full model that do not belong to the arm."""
    return [model.getJointId(name) for name in list(model.names)[1:] if name not in contract.joints.names]


def locked_posture(model: pinocchio.Model, contract: RobotContract, fingers: float | Sequence[float]) -> FloatArray:
    """Return the configuration (nq,) of a full model with every joint outside the arm at its locked position.

    Args:
        model: Full model of the contract's URDF.
        contract: Contract that names the gripper's joints and the fixed positions.
        fingers: Position of each gripper joint, m or rad; one value applies to all.

    Raises:
        ContractError: naming a joint that is neither the arm's, the gripper's, a mimic of the gripper's, nor fixed; or
            a fixed joint that does not exist, is beyond its limits, or mimics another.
    """
    file, fixed = contract.urdf.name, contract.joints.fixed
    described = list(model.names)[1:]
    if unknown := sorted(set(fixed) - set(described)):
        raise ContractError(f"joints.fixed: {file} has no joints {unknown} that move; it has {described}")
    mimics = described_mimics(contract.urdf.read_text(encoding="utf-8"))
    stands = np.broadcast_to(np.asarray(fingers, dtype=np.float64), len(contract.finger_names)).tolist()
    positions = {**dict(zip(contract.finger_names, stands, strict=True)), **fixed}
    posture = pinocchio.neutral(model)
    for index in locked_joints(model, contract):
        name = model.names[index]
        position = _position(name, positions, mimics, contract)
        _place(posture, model, index, position, file, check=name in fixed)
    return np.asarray(posture, dtype=np.float64)


def _position(name: str, positions: Mapping[str, float], mimics: Mapping[str, Mimic], contract: RobotContract) -> float:
    """Return the position of a joint, following <mimic> to its leader."""
    if name in positions and name not in mimics:
        return positions[name]
    if name in contract.finger_names:  # commanded directly, although the description has a <mimic>
        return positions[name]
    if name in contract.joints.fixed:
        raise ContractError(f"joints.fixed: '{name}' follows '{mimics[name].leader}' (<mimic>): fix that one instead")
    leader, scale, offset, seen = name, 1.0, 0.0, [name]
    while leader in mimics and leader not in positions:
        mimic = mimics[leader]
        scale, offset, leader = scale * mimic.multiplier, offset + scale * mimic.offset, mimic.leader
        if leader in seen:
            raise ContractError(f"{contract.urdf.name}: {seen} follow each other in a circle (<mimic>)")
        seen.append(leader)
    if leader in positions:
        return scale * positions[leader] + offset
    if leader in contract.joints.names:
        raise ContractError(
            f"{contract.urdf.name}: '{name}' follows '{leader}', a joint of the arm (<mimic>): an arm with coupled "
            "joints is not supported"
        )
    raise ContractError(
        f"joint '{leader}' of {contract.urdf.name} is neither in joints.names nor in gripper.names, and joints.fixed "
        f"does not say where it stands: add 'joints.fixed: {{{leader}: <rad or m>}}' to the contract of robot "
        f"'{contract.name}'"
    )


def _place(posture: FloatArray, model: pinocchio.Model, index: int, position: float, file: str, *, check: bool) -> None:
    """Write a joint position into a configuration; `check` verifies the limits."""
    joint, name = model.joints[index], model.names[index]
    start = joint.idx_q
    if joint.nv == 1 and joint.nq == 2:  # continuous: stored as cosine and sine
        posture[start : start + 2] = np.cos(position), np.sin(position)
        return
    if joint.nq != 1:
        raise ContractError(
            f"'{name}' of {file} moves in {joint.nv} directions: a single position cannot fix it; fix it in the "
            'description (type="fixed")'
        )
    low, high = float(model.lowerPositionLimit[start]), float(model.upperPositionLimit[start])
    if check and not low - ROUNDING <= position <= high + ROUNDING:
        raise ContractError(f"joints.fixed.{name}: got {position}, expected {low} to {high}, its limits in {file}")
    posture[start] = position
