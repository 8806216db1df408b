"""What a contact leads to: the first one is latched, and the arm backs off from it.

    reaction.record(step, now)                                    # every tick: what is commanded
    fault, detail = reaction.judge(fault, detail, state, now)     # every sound measurement, after the following check
    velocities = reaction.retreat()                               # every tick of a hold for `CONTACT`; None: brake
    velocities = reaction.unload(resting)                         # the same in an emergency stop

What the following check says comes first. An arm beyond the tracking tolerance has left its command, whatever holds it:
it is given up. A measurement that does not follow its command is no evidence of a contact; once a contact is known, not
following is what it looks like. So a false measurement looks like a contact then, or, beside the command, like the end
of one: where the command goes is decided by three, see `HeldPosture`.
"""

from __future__ import annotations

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.backoff import ARRIVED, BackOff
from vla_ros.safety.contact import Contact, ContactMonitor
from vla_ros.safety.held_posture import HeldPosture
from vla_ros.safety.joint_motion import JointStep, longest_stop
from vla_ros.safety.punctuality import Punctuality
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray, RobotState

AFTER_MOTION = 0.3
"""Contacts are looked for while the arm is commanded to move and for this time after, s. Later it is being guided."""

BLIND_WAY = 0.05
"""The arm backs off at most this far, rad of its quickest joint, on measurements equal to the last bit."""


LONGEST_TIME = 3.0
"""The way back ends so long after the contact, s, also where it is blocked: a disarming waits for it."""

RELAXED = 0.5
"""In an emergency stop the command follows the arm on as long as the distance between them falls to this share: an arm
that springs back from what it pressed on does that, one that hangs below its command by its weight does not."""


def longest_rest(contract: RobotContract) -> float:
    """Return how long a robot's arm takes at most to rest, s, once it is disarmed or stopped.

    It may meet something at the end of the longest stop, and stops again where its way back ends for lack of time.
    """
    stop = longest_stop(contract.joints)
    return stop if contract.contact is None else stop + LONGEST_TIME + stop


class ContactReaction:
    """Finds the first contact since the arming, and leads back from it. One thread at a time."""

    def __init__(self, contract: RobotContract, kinematics: Kinematics, period: float, ahead: float = 0.0) -> None:
        """Use the section `contact` of the contract; without it nothing ever happens.

        Args:
            contract: Of the robot.
            kinematics: Of the robot.
            period: Of the ticks, s.
            ahead: From a command to when it is due, and lateness that is tolerated, s: the robot's delay comes on top.

        Raises:
            ContractError: when the thresholds do not fit the robot description.
        """
        self._monitor = ContactMonitor(contract, kinematics.model, kinematics.frame_ids, period, ahead)
        self._punctuality = Punctuality(period)
        retreat = 0.0 if contract.contact is None else contract.contact.retreat
        self._backoff = BackOff(contract.joints, kinematics, retreat)
        self._held = HeldPosture(period)
        self.reset(contract.joints.home)

    def reset(self, positions: FloatArray) -> None:
        """Forget everything: the arm is armed at rest at `positions` (n,) rad."""
        self.contact: Contact | None = None
        self._monitor.reset(positions)
        self._backoff.clear()
        self._punctuality.reset()
        self._held.clear()
        self._stamp = -np.inf
        self._commanded = np.asarray(positions)
        self._moved_at = -np.inf  # when a command last moved, s
        self._measured: FloatArray | None = None
        self._now, self._ends_at = -np.inf, np.inf
        self._load: float | None = None  # distance of command and arm when an emergency stop last took it away, rad
        self._blind = 0.0  # way commanded since the measurement last changed, rad

    def record(self, step: JointStep, now: float) -> None:
        """Take what is commanded at `now`, s, steady clock."""
        self._monitor.command(step.positions)
        self._punctuality.tick(now)
        if step.velocities.any():
            self._moved_at = now
        if self.contact is None:
            self._backoff.note(step.positions)
        self._blind += float(np.abs(step.positions - self._commanded).max())
        self._commanded = step.positions
        self._now = now
        if now > self._ends_at:
            self._backoff.end()

    def judge(self, fault: Reason, detail: str, state: RobotState, now: float) -> tuple[Reason, str]:
        """Return what the newest measurement says: `fault` of the following check, or a contact, or OK.

        Args:
            fault: What the following check makes of the same measurement.
            detail: What it measured.
            state: Newest measurement.
            now: Steady clock, s.
        """
        if self._measured is None or not np.array_equal(state.joint_positions, self._measured):
            self._measured, self._blind = state.joint_positions, 0.0
        new = state.stamp != self._stamp
        if new:
            self._stamp = state.stamp
            self._punctuality.measure(state.stamp, now)
        moving = now - self._moved_at <= AFTER_MOTION
        punctual = self._punctuality.punctual(now)
        contact = self._monitor.update(state, believed=fault is Reason.OK, moving=moving, punctual=punctual)
        self._held.look(now)
        if new:
            self._held.measure(state.joint_positions, self._monitor.touching)
        if self.contact is None and contact is not None and fault in (Reason.OK, Reason.NOT_FOLLOWING):
            self.contact, self._ends_at = contact, now + LONGEST_TIME
            self._backoff.begin(self._commanded, state.joint_positions)
        if self.contact is None or fault is Reason.TRACKING:
            return fault, detail
        return Reason.CONTACT, self.contact.detail

    def retreat(self) -> FloatArray | None:
        """Return the joint velocities (n,) rad/s that lead back from the contact, or None: the stop is followed."""
        return self._back(self._held.touching)

    def _back(self, touching: bool) -> FloatArray | None:
        if self._blind > BLIND_WAY:
            self._backoff.end()
        measured = self._held.positions
        return None if measured is None else self._backoff.velocities(self._commanded, measured, touching)

    @property
    def retreating(self) -> bool:
        """Whether there is way left to go back."""
        return self._backoff.active

    def unload(self, resting: bool) -> FloatArray | None:
        """Return the joint velocities (n,) rad/s that take the load off in an emergency stop, or None: it is followed.

        No way back is driven. The stop comes first; at its end the command goes to the posture where the arm is held,
        if it still presses: an arm that has stopped must not leave anybody clamped.

        Args:
            resting: The commanded motion is at rest.
        """
        measured = self._held.positions
        if measured is None:
            return None
        load = float(np.abs(measured - self._commanded).max())
        if self._load is None:
            if not resting:
                return None
            self._backoff.end()
            self._load = load if self._held.touching else 0.0
            self._ends_at = self._now + LONGEST_TIME
            if self._load > 0.0:
                self._backoff.yield_to(measured)
        elif resting and not self._backoff.active and ARRIVED < load <= RELAXED * self._load:
            self._load = load
            self._backoff.yield_to(measured)
        return self._back(touching=False)  # what lasts alone does not lead on, as where an arm hangs

    def give_up(self) -> None:
        """Do not go back any further: the arm has left its command."""
        self._backoff.end()
