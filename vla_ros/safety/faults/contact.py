"""Faults of contact: something that does not give way, seen by position and by effort; a payload is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.safety.faults.trial import DISARMED, ESTOP, HOLD, RUN, Fault, Play, Trial, passes
from vla_ros.safety.momentum_observer import DOWN
from vla_ros.safety.reasons import Reason
from vla_ros.safety.shadow import Shadow

GRAVITY = 9.81
SEEN = frozenset({Reason.CONTACT, Reason.NOT_FOLLOWING, Reason.TRACKING})
"""A contract without the section `contact` has the tolerances of the measurement alone."""

PRESS_TICKS = 40
"""For the contact to be seen and the arm to have backed off."""

LETTING_GO = 350
"""Table ticks after which an arm that was told to stop in a contact presses no more: the longest way back, its stop."""

LEFT = 0.25
"""Share of the threshold that the command may still be ahead of the arm then."""

PUSH = 3.0
"""External torque of the pushed arm, in thresholds."""


def _obstructed(trial: Trial) -> None:
    """From here on the joints cannot go any further the way that they are going."""
    shadow = trial.shadow
    shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
    trial.follow(lambda _: shadow.way((0.0, 0.025, 0.0)), trial.pace.ticks(PRESS_TICKS))
    if shadow.contract.contact is None:
        return
    trial.tick(PRESS_TICKS)
    given_up = shadow.supervisor.state is DISARMED  # a slow arm may be beyond the tracking tolerance before it stands
    # Joints at full speed may be there before a contact is told from a wide `lag`: then the arm is let go of.
    outrun = given_up and shadow.of_joints
    trial.require(outrun or Reason.CONTACT.label in trial.reasons, "no contact was reported")
    pressed = np.abs(shadow.commands[-1] - shadow.q)
    trial.require(given_up or bool((pressed <= shadow.contract.contact.tracking).all()), "the arm goes on pressing")


def _obstructed_then(order: Callable[[Shadow], None]) -> Play:
    """The arm meets something, and in the tick after that has been found out it is told to stop for good."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
        for i in range(shadow.ticks(trial.pace.ticks(PRESS_TICKS))):
            if i % shadow.chunk_ticks == 0:
                trial.answer(shadow.ask(shadow.way((0.0, 0.025, 0.0))))
            if trial.tick().reason in {reason.label for reason in SEEN}:
                break
        order(shadow)
        trial.tick(shadow.ticks(LETTING_GO))
        limits = shadow.contract.contact
        if limits is None or Reason.CONTACT.label not in trial.reasons:
            return
        pressed = np.abs(shadow.commands[-1] - shadow.q)
        # A slow arm may be beyond the tracking tolerance before it stands: it is given up, and its controller lets go.
        given_up = pressed.max() > shadow.parameters.motion.tracking_tolerance and not shadow.supervisor.commanding
        trial.require(given_up or bool((pressed <= LEFT * limits.tracking).all()), "the arm goes on pressing")

    return play


def _pushed(trial: Trial) -> None:
    """The arm goes where it is told, but its torques show that something presses on it."""
    shadow, contact = trial.shadow, trial.shadow.contract.contact
    if contact is None or contact.effort is None:
        _obstructed(trial)
        return
    shadow.external = np.zeros_like(shadow.q)
    trial.follow(lambda _: shadow.way((0.0, 0.025, 0.0)), 10)
    trial.require(shadow.supervisor.state is RUN, "free motion was taken for a contact")
    shadow.external = -PUSH * contact.effort
    trial.tick(5)
    trial.require(Reason.CONTACT.label in trial.reasons, "no contact was reported")
    shadow.external = np.zeros_like(shadow.q)
    trial.tick(PRESS_TICKS)


def _loaded(trial: Trial) -> None:
    """The gripper takes the heaviest payload of the contract at once, in motion."""
    shadow, contact = trial.shadow, trial.shadow.contract.contact
    mass = 0.0 if contact is None else contact.payload
    shadow.external = np.zeros_like(shadow.q)
    trial.follow(lambda _: shadow.way((0.0, 0.0, 0.0)), 10)
    weight = mass * GRAVITY * DOWN
    shadow.external = np.asarray(shadow.kinematics.jacobian(shadow.q).T @ weight, dtype=np.float64)
    trial.follow(lambda _: shadow.way((0.0, 0.0, 0.0)), 30)


def table() -> list[Fault]:
    """Return the faults of this module."""
    hold = frozenset({HOLD, DISARMED})  # disarmed: it was beyond the tracking tolerance before it stood
    return [
        Fault("the arm meets something immovable", _obstructed, hold, SEEN),
        Fault(
            "disarmed as soon as a contact is found",
            _obstructed_then(lambda s: s.supervisor.disarm(s.now)),
            frozenset({DISARMED}),
            SEEN,
        ),
        Fault(
            "emergency stop as soon as a contact is found",
            _obstructed_then(lambda s: s.supervisor.press_estop(s.now)),
            frozenset({ESTOP}),
            SEEN,
        ),
        Fault("something presses on the arm", _pushed, hold, SEEN),
        passes("the gripper takes its heaviest payload", Reason.OK, _loaded),
    ]
