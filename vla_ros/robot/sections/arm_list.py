"""Contracts of several arms: `arms`, a list in place of the fields of a single arm, and the fields common to all.

arms:
  - name: left                          # as in the names of its action groups
    end_effector_frame: left_tool
    joints: {...}                       # these sections are as in a contract of one arm
    cartesian: {...}                    # workspace in the axes of the robot's base_frame
    gripper: none
    controllers: {arm_interface: joint_trajectory, arm_topic: /left/joint_trajectory}
  - name: right
    ...
controllers: {joint_states_topic: /joint_states, command_timeout: 0.2}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn, cast

import numpy as np

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ContractError
from vla_ros.robot.joint_states.sources import parse_joint_sources
from vla_ros.robot.sections.arm import (
    ArmContract,
    ControllerContract,
    GripperInterface,
    JointContract,
    parse_arm,
)
from vla_ros.robot.sections.contact import ContactContract
from vla_ros.robot.sections.section import Section
from vla_ros.types import frozen_array

OF_ALL = ("joint_states_topic", "joint_states_from", "command_timeout")
"""Fields of the robot's section `controllers` when there are several arms; the others are in each arm."""


class OfEachArm:
    """Placeholder for a field that each of several arms has; reading it raises ContractError."""

    def __init__(self, line: str, arms: tuple[str, ...]) -> None:
        """Stand for the field `line` of a robot with these arms."""
        self._line, self._arms = line, arms

    def __repr__(self) -> str:
        """Return a text that depends only on field and arms."""
        return f"OfEachArm({self._line!r}, {self._arms!r})"

    def __eq__(self, other: object) -> bool:
        """Return whether both stand for the same field."""
        return isinstance(other, OfEachArm) and repr(other) == repr(self)

    def __hash__(self) -> int:
        """Hash field and arms."""
        return hash(repr(self))

    def __getattr__(self, name: str) -> NoReturn:
        """Reject the access.

        Raises:
            ContractError: naming the arms.
        """
        if name.startswith("_"):  # copy and pickle look these up
            raise AttributeError(name)
        raise ContractError(
            f"{self._line}.{name} of a robot with arms {list(self._arms)}: each arm has its own; what reads it is made "
            "for robots of one arm"
        )


def parse_arms(root: Section) -> tuple[ArmContract, ...]:
    """Parse the arms of a contract.

    Raises:
        ContractError: naming the missing, unknown or invalid field and its arm, or a joint or topic of two arms.
    """
    entries = root.get("arms")
    if not isinstance(entries, list) or not entries:
        raise ContractError(f"{root.where}.arms: expected a list of arms, got {entries!r}")
    sections = [Section(entry, f"{root.where}.arms[{number}]") for number, entry in enumerate(entries)]
    names = [section.text("name") for section in sections]
    if len(set(names)) != len(names) or any("/" in name for name in names):
        raise ContractError(f"{root.where}.arms: got the names {names}, expected different ones without '/'")
    shared = root.section("controllers").only(*OF_ALL)
    arms = tuple(
        _arm(Section(section.values, f"{root.where}.arms[{name}]"), name, shared)
        for section, name in zip(sections, names, strict=True)
    )
    joints = [joint for arm in arms for joint in (*arm.joints.names, *arm.gripper.names)]
    topics = [topic for arm in arms for topic in (arm.controllers.arm_topic, arm.controllers.gripper_topic) if topic]
    for what, values in (("joint", joints), ("topic", topics)):
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ContractError(f"{root.where}.arms: the {what} {twice[0]} stands twice; expected each in one arm")
    sources = parse_joint_sources(shared, joints)
    return tuple(replace(arm, controllers=replace(arm.controllers, joint_states_from=sources)) for arm in arms)


def _arm(section: Section, name: str, shared: Section) -> ArmContract:
    section.only("name", "end_effector_frame", "joints", "cartesian", "gripper", "controllers", "contact")
    own = section.section("controllers")
    if misplaced := sorted(set(own.values) & set(OF_ALL)):
        raise ContractError(f"{own.where}: {misplaced} are lines of the robot's section controllers, not of an arm's")
    lines = {line: value for line, value in shared.values.items() if line != "joint_states_from"}
    return parse_arm(section, name, Section({**lines, **own.values}, own.where))


def check_action(arms: Sequence[ArmContract], action: ActionSpace, where: str) -> None:
    """Check that an action space commands every arm with its number of joints and its gripper.

    Raises:
        ContractError: naming the arm and the group.
    """
    names = [arm.name for arm in arms]
    if sorted(names) != sorted(action.arms):
        raise ContractError(
            f"{where}.action: its groups command the arms {sorted(action.arms)}, expected {sorted(names)}: every arm "
            "has one group that moves it"
        )
    for arm in arms:
        motion, column = action.motion(arm.name), action.gripper(arm.name)
        if not arm.gripper.present and column is not None:
            of = "" if len(arms) == 1 else f" of arm '{arm.name}'"
            raise ContractError(
                f"{where}.action.gripper{of}: got '{column.gripper.value}', expected none: there is no gripper"
            )
        if motion.quantity.of_joints and motion.joints != arm.joints.count:
            raise ContractError(
                f"{where}.action: group '{motion.name}' has joints {motion.joints}, expected {arm.joints.count}, one "
                "for each of joints.names"
            )
        if len(arms) > 1 and not motion.quantity.of_joints:
            raise ContractError(
                f"{where}.action: group '{motion.name}' commands a tool; several arms in one contract are commanded by "
                "joint_position, joint_delta or joint_velocity"
            )


def merged_joints(arms: Sequence[ArmContract], where: str) -> JointContract:
    """Return the joints of all arms, concatenated in arm order.

    Raises:
        ContractError: when an arm fixes a joint that another arm moves, or two arms fix the same joint.
    """
    if len(arms) == 1:
        return arms[0].joints
    moved = {name for arm in arms for name in (*arm.joints.names, *arm.gripper.names)}
    fixed: dict[str, float] = {}
    for arm in arms:
        for name, value in arm.joints.fixed.items():
            if name in moved or name in fixed:
                by = "moved" if name in moved else "fixed"
                raise ContractError(f"{where}.arms[{arm.name}].joints.fixed: '{name}' is {by} by another arm")
            fixed[name] = value
    vectors = ("lower", "upper", "velocity", "acceleration", "jerk", "effort", "home")
    stacked = {line: frozen_array(np.concatenate([getattr(arm.joints, line) for arm in arms])) for line in vectors}
    return JointContract(names=tuple(name for arm in arms for name in arm.joints.names), fixed=fixed, **stacked)


def merged_controllers(arms: Sequence[ArmContract]) -> ControllerContract:
    """Return the controller fields common to all arms; with several arms, without topics."""
    if len(arms) == 1:
        return arms[0].controllers
    return replace(arms[0].controllers, arm_topic="", gripper_interface=GripperInterface.NONE, gripper_topic="")


def merged_contact(arms: Sequence[ArmContract], where: str) -> ContactContract | None:
    """Return the contact detection of all arms: the thresholds of each, and the largest of delay, payload and retreat.

    Raises:
        ContractError: when only some of several arms have the section, or one of them sets effort thresholds.
    """
    if len(arms) == 1:
        return arms[0].contact
    found = [arm.contact for arm in arms if arm.contact is not None]
    if not found:
        return None
    if missing := [arm.name for arm in arms if arm.contact is None]:
        raise ContractError(f"{where}.arms[{missing[0]}]: 'contact' is missing; another arm has it: all or none")
    for arm in arms:
        if arm.contact is not None and arm.contact.effort is not None:
            raise ContractError(
                f"{where}.arms[{arm.name}].contact.effort: expected none where there are several arms: contacts of "
                "theirs are seen by position"
            )
    return ContactContract(
        delay=max(one.delay for one in found),
        lag=frozen_array(np.concatenate([one.lag for one in found])),
        tracking=frozen_array(np.concatenate([one.tracking for one in found])),
        effort=None,
        payload=max(one.payload for one in found),
        retreat=max(one.retreat for one in found),
    )


def of_each_arm(arms: Sequence[ArmContract]) -> dict[str, Any]:
    """Return the contract's per-arm fields: those of a single arm, or placeholders and the list of arms."""
    if len(arms) == 1:
        arm = arms[0]
        return {"end_effector_frame": arm.end_effector_frame, "cartesian": arm.cartesian, "gripper": arm.gripper}
    names = tuple(arm.name for arm in arms)
    return {
        "end_effector_frame": "",
        "cartesian": cast(Any, OfEachArm("cartesian", names)),
        "gripper": cast(Any, OfEachArm("gripper", names)),
        "each_arm": tuple(arms),
    }
