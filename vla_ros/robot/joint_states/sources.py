"""Publishers of joint states: `controllers.joint_states_from` of a robot contract.

    joint_states_from:
      arm: {joints: [joint1, joint2], max_age: 0.1}
      gripper: {joints: [finger], max_age: 0.15}

The drivers of an arm and of its gripper are often two nodes, which publish their own joint states on the same topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vla_ros.errors import ContractError
from vla_ros.robot.sections.section import Section

LARGEST_AGE = 1.0
"""Maximum age of a usable measurement, s."""


@dataclass(frozen=True)
class JointSource:
    """One publisher of joint states.

    Attributes:
        name: Name of the source in error messages.
        joints: Joints that it reports, all in one message.
        max_age: Maximum age of its joints relative to those of the other sources, by stamp and by receipt, s.
    """

    name: str
    joints: tuple[str, ...]
    max_age: float


def parse_joint_sources(controllers: Section, joints: Sequence[str]) -> tuple[JointSource, ...]:
    """Parse the sources of a contract; empty where the section is missing: one publisher reports all joints.

    Args:
        controllers: Section that contains them.
        joints: Names of the robot's joints, fingers included: each must have exactly one source.

    Raises:
        ContractError: when a joint has no source or two, or a field is missing, unknown or invalid.
    """
    if controllers.values.get("joint_states_from") is None:
        return ()
    section = controllers.section("joint_states_from")
    sources = tuple(_source(str(name), section.section(name)) for name in section.values)
    named = [joint for source in sources for joint in source.joints]
    for what, wrong in (
        ("have no source", [joint for joint in joints if joint not in named]),
        ("have two sources", sorted({joint for joint in named if named.count(joint) > 1})),
        ("are neither in joints.names nor in gripper.names", [joint for joint in named if joint not in joints]),
    ):
        if wrong:
            raise ContractError(f"{section.where}: {wrong} {what}")
    return sources


def _source(name: str, section: Section) -> JointSource:
    section.only("joints", "max_age")
    max_age = section.number("max_age")
    if max_age > LARGEST_AGE:
        raise ContractError(f"{section.where}.max_age: got {max_age} s, expected at most {LARGEST_AGE}")
    return JointSource(name, section.names("joints"), max_age)
