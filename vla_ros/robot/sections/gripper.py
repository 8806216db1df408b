"""Gripper section of a robot contract: finger joints, and their relation to the opening between the fingertips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vla_ros.errors import ContractError
from vla_ros.robot.sections.section import Section

NONE = "none"
"""Value in place of the section for an arm without a gripper."""


@dataclass(frozen=True)
class GripperContract:
    """Gripper whose joints all move together, each linearly with the opening between the fingertips.

    An arm without a gripper has `NO_GRIPPER`: no joints, an opening that is always 0, and no commands.

    Attributes:
        names: Finger joints, each commanded.
        min_opening: Smallest opening, m.
        max_opening: Largest opening, m.
        closed: Position of each finger joint at the smallest opening, m or rad.
        open: Position of each finger joint at the largest opening, m or rad; mirrored fingers have opposite signs.
        velocity: Speed limit of the opening, m/s.
        force: Grip force, N.
    """

    names: tuple[str, ...]
    min_opening: float
    max_opening: float
    closed: tuple[float, ...]
    open: tuple[float, ...]
    velocity: float
    force: float

    @property
    def present(self) -> bool:
        """Whether there is a gripper."""
        return bool(self.names)

    def joint_positions(self, opening: float) -> list[float]:
        """Return the finger joint positions at an opening in m: one per joint, m or rad."""
        if not self.present:
            return []
        fraction = (opening - self.min_opening) / (self.max_opening - self.min_opening)
        return [closed + fraction * (far - closed) for closed, far in zip(self.closed, self.open, strict=True)]

    def opening(self, positions: Iterable[float]) -> float:
        """Return the opening, m, at finger joint positions (one per joint, m or rad): the mean over the joints."""
        if not self.present:
            return 0.0
        fractions = [
            (float(position) - closed) / (far - closed)
            for position, closed, far in zip(positions, self.closed, self.open, strict=True)
        ]
        return self.min_opening + sum(fractions) / len(fractions) * (self.max_opening - self.min_opening)


NO_GRIPPER = GripperContract((), 0.0, 0.0, (), (), 0.0, 0.0)
"""Gripper of an arm that ends in a tool, a suction cup or nothing."""


def gripper_names(root: Section) -> tuple[str, ...]:
    """Return the finger joints of a contract; empty without a gripper."""
    return () if root.values.get("gripper") == NONE else root.section("gripper").names("names")


def parse_gripper(root: Section) -> GripperContract:
    """Parse the section `gripper` of a contract.

    Raises:
        ContractError: when a field is missing, unknown or invalid.
    """
    if root.values.get("gripper") == NONE:
        return NO_GRIPPER
    section = root.section("gripper").only("names", "min_opening", "max_opening", "closed", "open", "velocity", "force")
    names = section.names("names")
    gripper = GripperContract(
        names=names,
        min_opening=section.number("min_opening", positive=False),
        max_opening=section.number("max_opening"),
        closed=_of_each(section, "closed", len(names)),
        open=_of_each(section, "open", len(names)),
        velocity=section.number("velocity"),
        force=section.number("force"),
    )
    if not 0.0 <= gripper.min_opening < gripper.max_opening:
        raise ContractError(f"{section.where}: expected 0 <= min_opening < max_opening")
    for name, closed, far in zip(names, gripper.closed, gripper.open, strict=True):
        if closed == far:
            raise ContractError(f"{section.where}: closed and open of {name} are both {far}: it would not move")
    return gripper


def _of_each(section: Section, line: str, count: int) -> tuple[float, ...]:
    """Return one value per joint, from a list or from a single value for all."""
    if isinstance(section.get(line), list):
        return tuple(section.vector(line, count).tolist())
    return (section.number(line, positive=False),) * count
