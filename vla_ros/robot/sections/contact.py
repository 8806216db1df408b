"""Section `contact` of a robot contract: how the arm tracks its command, and which residuals mean contact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ContractError
from vla_ros.robot.sections.section import Section
from vla_ros.types import FloatArray

NOT_REPORTED = "none"
"""Value in place of the effort thresholds when the driver reports no joint torques in N m."""

LARGEST = {"delay": 0.1, "lag": 0.5, "tracking": 0.5, "payload": 50.0, "retreat": 0.05}
"""Upper bounds, units as in `ContactContract`: beyond them a contact would be detected too late to prevent harm."""


@dataclass(frozen=True)
class ContactContract:
    """Thresholds of contact detection; arrays are (n,), in the order of the joints.

    Attributes:
        delay: Maximum delay from a command to the first measurement of its effect, s.
        lag: Largest time constant of each joint's response to its command, s; 0 for immediate.
        tracking: Distance beyond the reachable positions of a free joint that counts as contact, rad.
        effort: External torque that counts as contact, N m; None where the driver reports no torques.
        payload: Largest payload, kg; its weight does not count as contact.
        retreat: Distance that the tool backs off from the point of contact, m.
    """

    delay: float
    lag: FloatArray
    tracking: FloatArray
    effort: FloatArray | None
    payload: float
    retreat: float


def parse_contact(section: Section, joints: int) -> ContactContract:
    """Parse the section for an arm with `joints` joints.

    Raises:
        ContractError: when a field is missing, unknown or out of range.
    """
    section.only("delay", "lag", "tracking", "effort", "payload", "retreat")
    reported = section.get("effort") != NOT_REPORTED
    contact = ContactContract(
        delay=section.number("delay"),
        lag=section.vector("lag", joints),
        tracking=section.vector("tracking", joints, positive=True),
        effort=section.vector("effort", joints, positive=True) if reported else None,
        payload=section.number("payload", positive=False),
        retreat=section.number("retreat"),
    )
    for name, most in LARGEST.items():
        values = np.atleast_1d(getattr(contact, name))
        if not ((values >= 0.0) & (values <= most)).all():
            raise ContractError(f"{section.where}.{name}: got {values.tolist()}, expected 0 to {most}")
    return contact
