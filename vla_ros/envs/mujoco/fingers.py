"""Assigns a gripper's bodies to fingers: which of them close on an object from the same side."""

from __future__ import annotations

import mujoco

from vla_ros.robot.contract import GripperContract, RobotContract
from vla_ros.robot.posture import described_mimics


def gripper_joints(contract: RobotContract) -> tuple[str, ...]:
    """Return the moving joints of all grippers: the commanded ones and those that mimic them."""
    return tuple(name for arm in contract.arms for name in _moving_joints(contract, arm.gripper))


def _moving_joints(contract: RobotContract, gripper: GripperContract) -> tuple[str, ...]:
    followers = described_mimics(contract.urdf.read_text(encoding="utf-8"))
    names = list(gripper.names)
    while more := [name for name, one in followers.items() if one.leader in names and name not in names]:
        names += more
    return tuple(names)


def finger_bodies(model: mujoco.MjModel, contract: RobotContract) -> dict[int, int]:
    """Return the finger number of each gripper body; empty without a gripper.

    The palm is the body that carries all joints of the gripper. Each subtree that one of these joints attaches to it is
    one finger with all its phalanges. With a single such finger, as with one jaw, the palm and the bodies fixed to it
    are the other finger. Fingers are numbered consecutively over all arms.
    """
    fingers: dict[int, int] = {}
    for arm in contract.arms:
        moved = [int(model.jnt_bodyid[model.joint(name).id]) for name in _moving_joints(contract, arm.gripper)]
        first = len(set(fingers.values()))
        fingers |= {body: first + number for body, number in _fingers_of(model, moved).items()}
    return fingers


def _fingers_of(model: mujoco.MjModel, moved: list[int]) -> dict[int, int]:
    """Return the same for one gripper, whose joints move the bodies `moved`; its fingers are numbered from 0."""
    if not moved:
        return {}
    palm = _palm(model, moved)
    branches: dict[int, int] = {}
    fingers: dict[int, int] = {}
    for body in range(1, model.nbody):
        chain = _chain(model, body)
        if palm not in chain or body == palm:
            continue
        below = chain[: chain.index(palm)]
        moving = [one for one in below if one in moved]
        if moving:
            fingers[body] = branches.setdefault(moving[-1], len(branches))
    if len(branches) == 1:
        rigid = {body for body in range(1, model.nbody) if _rigid_with(model, body, palm)}
        fingers |= dict.fromkeys(sorted(rigid | {palm}), 1)
    return fingers


def _palm(model: mujoco.MjModel, moved: list[int]) -> int:
    """Return the nearest body that carries all of `moved` without being one of them."""
    common = _chain(model, int(model.body_parentid[moved[0]]))
    for other in moved[1:]:
        chain = _chain(model, int(model.body_parentid[other]))
        common = [body for body in common if body in chain]
    return next(body for body in common if body not in moved)


def _chain(model: mujoco.MjModel, body: int) -> list[int]:
    """Return a body and its ancestors, the world last."""
    chain = [body]
    while body:
        body = int(model.body_parentid[body])
        chain.append(body)
    return chain


def _rigid_with(model: mujoco.MjModel, body: int, palm: int) -> bool:
    """Return whether a body is carried by the palm and rigidly fixed to it."""
    return palm != body and bool(model.body_weldid[body] == model.body_weldid[palm]) and palm in _chain(model, body)
