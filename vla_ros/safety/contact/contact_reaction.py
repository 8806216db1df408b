"""Reaction to contact: the first contact is latched, and the arm backs off from it.

    reaction.record(step, now)                                    # every tick: the commanded step
    fault, detail = reaction.judge(fault, detail, state, now)     # every valid measurement, after the following check
    velocities = reaction.retreat()                               # every tick of a hold for `CONTACT`; None: brake
    velocities = reaction.unload(resting)                         # the same in an emergency stop

The following check has priority. An arm beyond the tracking tolerance has left its command, whatever holds it: it is
given up. A measurement that does not follow its command is no evidence of a contact; once a contact is known, not
following is how it appears. A false measurement then looks like a contact, or, close to the command, like its end: so
the command's target is decided from three measurements, see `HeldPosture`.
"""

from __future__ import annotations

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.contact.backoff import ARRIVED, BackOff
from vla_ros.safety.contact.contact import Contact, ContactMonitor
from vla_ros.safety.measurement.held_posture import HeldPosture
from vla_ros.safety.motion.joint_motion import JointStep, longest_stop
from vla_ros.safety.reasons import Reason
from vla_ros.safety.watch.punctuality import Punctuality
from vla_ros.types import FloatArray, RobotState

AFTER_MOTION = 0.3
"""Time after commanded motion during which contacts are still detected, s; later, the arm is being hand-guided."""

BLIND_WAY = 0.05
"""Maximum distance of a joint's command behind its measured position, rad: then the back-off pauses until the arm is
seen to follow. An arm that is held is measured in one place until the command has come back to it."""

AT_COMMAND = 1e-3
"""Distance of a joint from its command, rad, up to which it presses in neither direction."""

LONGEST_TIME = 3.0
"""Maximum duration of the back-off, s, even if it is blocked: disarming waits for it."""

RELAXED = 0.5
"""Fraction of the load's displacement, command to measurement, below which the command follows the arm again in an
emergency stop: an arm that springs back gets there, one that sags below its command under its weight does not."""


def longest_rest(contract: RobotContract, period: float) -> float:
    """Return the longest time until a robot's arm is at rest, s, once it is disarmed or stopped.

    It may hit something at the end of the longest stop, and stops again when the back-off times out.
    """
    stop = longest_stop(contract.joints, period)
    return stop if contract.contact is None else stop + LONGEST_TIME + stop


class ContactReaction:
    """Latches the first contact after arming, and backs off from it. Not thread-safe."""

    def __init__(self, contract: RobotContract, kinematics: Kinematics, period: float, ahead: float = 0.0) -> None:
        """Use the section `contact` of the contract; without it nothing is detected.

        Args:
            contract: Contract of the robot.
            kinematics: Kinematics of the robot.
            period: Tick period, s.
            ahead: Time from a command to its due time, plus tolerated lateness, s; the robot's delay is added.

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
        """Reset all state: the arm is armed at rest at `positions` (n,) rad."""
        self.contact: Contact | None = None
        self._monitor.reset(positions)
        self._backoff.clear()
        self._punctuality.reset()
        self._held.clear()
        self._stamp = -np.inf
        self._commanded = np.asarray(positions)
        self._moved_at = -np.inf  # time of the last command with motion, s
        self._now, self._ends_at = -np.inf, np.inf
        self._load: float | None = None  # distance from command to arm at the last unloading in an emergency stop, rad
        self._given_up = False
        self._judged = True  # whether there was a measurement to act on since the last command
        # Direction in which each joint pressed at the contact: the sign of command minus measurement; 0 for neither.
        self._pressed = np.zeros(len(positions))

    def record(self, step: JointStep, now: float) -> None:
        """Record the step commanded at `now`, s, steady clock."""
        self._monitor.command(step.positions)
        self._punctuality.tick(now)
        if step.velocities.any():
            self._moved_at = now
        if self.contact is None:
            self._backoff.note(step.positions)
        self._commanded = step.positions
        if not self._judged:  # without measurements nothing can be relieved: the time does not count
            self._ends_at += now - self._now
        self._judged = False
        self._now = now
        if now > self._ends_at:
            self._backoff.end()

    def judge(self, fault: Reason, detail: str, state: RobotState, now: float) -> tuple[Reason, str]:
        """Return the verdict on the newest measurement: `fault` of the following check, a contact, or OK.

        Args:
            fault: Verdict of the following check on the same measurement.
            detail: Its detail.
            state: Newest measurement.
            now: Steady clock, s.
        """
        self._judged = True
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
            ahead = self._commanded - state.joint_positions
            self._pressed = np.where(np.abs(ahead) <= AT_COMMAND, 0.0, np.sign(ahead))
            self._backoff.begin(self._commanded, state.joint_positions)
        if self.contact is None or fault is Reason.TRACKING:
            return fault, detail
        return Reason.CONTACT, self.contact.detail

    def retreat(self) -> FloatArray | None:
        """Return the joint velocities (n,) rad/s of the back-off, or None: the stop is followed."""
        return self._back(self._held.touching)

    def _back(self, touching: bool) -> FloatArray | None:
        measured = self._held.positions
        if measured is None or (self._behind(measured) > BLIND_WAY).any():
            return None
        return self._backoff.velocities(self._commanded, measured, touching)

    def _behind(self, measured: FloatArray) -> FloatArray:
        """Return how far each joint's command is behind its measured position, as seen from the contact, (n,) rad."""
        ahead = self._commanded - measured
        return np.where(self._pressed == 0.0, np.abs(ahead), -self._pressed * ahead)

    @property
    def retreating(self) -> bool:
        """Whether the back-off is under way."""
        return self._backoff.active

    def unload(self, resting: bool) -> FloatArray | None:
        """Return joint velocities (n,) rad/s that relieve the load in an emergency stop, or None: follow the stop.

        There is no back-off. The arm stops first; then, if it still presses, the command goes to the measured posture:
        a stopped arm must not clamp anybody.

        Args:
            resting: Whether the commanded motion is at rest.
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
        elif resting and not self._backoff.active and self._relaxes(measured):
            self._load = load
            self._backoff.yield_to(measured)
        return self._back(touching=False)  # a persistent load alone does not extend the path: the arm may sag

    @property
    def unloading(self) -> bool:
        """Whether an emergency stop has not yet relieved the load of a contact."""
        if self.contact is None or self._given_up:
            return False
        return self._load is None or self.retreating or self._relaxes(self._held.positions)

    def _relaxes(self, measured: FloatArray | None) -> bool:
        """Return whether an unloaded arm has come so much nearer to its command that the command follows it again."""
        if measured is None or self._load is None:
            return False
        return ARRIVED < float(np.abs(measured - self._commanded).max()) <= RELAXED * self._load

    def give_up(self) -> None:
        """Abort the back-off: the arm has left its command."""
        self._given_up = True
        self._backoff.end()
