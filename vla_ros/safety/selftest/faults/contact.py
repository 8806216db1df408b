"""Contact faults: a rigid obstacle, detected by position and by effort; a payload is not a contact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.safety.contact.momentum_observer import DOWN
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.safety.selftest.trial import DISARMED, ESTOP, HOLD, RUN, Fault, Play, Trial, passes

GRAVITY = 9.81
SEEN = frozenset({Reason.CONTACT, Reason.NOT_FOLLOWING, Reason.TRACKING})
"""Accepted reasons: without the section `contact`, only the tracking tolerances apply."""

PRESS_TICKS = 40
"""Table ticks for the contact to be detected and the arm to back off."""

LETTING_GO = 350
"""Table ticks until an arm that is stopped during a contact no longer presses: the longest back-off and its stop."""

LEFT = 0.25
"""Fraction of the threshold by which the command may still be ahead of the arm afterwards."""

PUSH = 3.0
"""External torque on the pushed arm, as a multiple of the thresholds."""


def _obstructed(trial: Trial) -> None:
    """From now on the joints are blocked in their direction of motion."""
    shadow = trial.shadow
    shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
    trial.follow(lambda _: shadow.way((0.0, 0.025, 0.0)), trial.pace.ticks(PRESS_TICKS))
    if shadow.contract.contact is None:
        return
    trial.tick(PRESS_TICKS)
    given_up = shadow.supervisor.state is DISARMED  # a slow arm may exceed the tracking tolerance before it stops
    # Joints at full speed may exceed it before a contact can be distinguished from a large `lag`: the arm is given up.
    outrun = given_up and shadow.of_joints
    trial.require(outrun or Reason.CONTACT.label in trial.reasons, "no contact was reported")
    pressed = np.abs(shadow.commands[-1] - shadow.q)
    trial.require(given_up or bool((pressed <= shadow.contract.contact.tracking).all()), "the arm goes on pressing")


def _obstructed_then(order: Callable[[Shadow], None]) -> Play:
    """Block the arm, and stop it permanently by `order` in the tick after the contact was detected."""

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
        # A slow arm may exceed the tracking tolerance before it stops: it is given up, and its controller lets go.
        given_up = pressed.max() > shadow.parameters.motion.tracking_tolerance and not shadow.supervisor.commanding
        trial.require(given_up or bool((pressed <= LEFT * limits.tracking).all()), "the arm goes on pressing")

    return play


def _pushed(trial: Trial) -> None:
    """The arm follows its command, but its torques show an external force."""
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
    """The gripper suddenly takes the largest payload of the contract, in motion."""
    shadow, contact = trial.shadow, trial.shadow.contract.contact
    mass = 0.0 if contact is None else contact.payload
    shadow.external = np.zeros_like(shadow.q)
    trial.follow(lambda _: shadow.way((0.0, 0.0, 0.0)), 10)
    weight = mass * GRAVITY * DOWN
    shadow.external = np.asarray(shadow.kinematics.jacobian(shadow.q).T @ weight, dtype=np.float64)
    trial.follow(lambda _: shadow.way((0.0, 0.0, 0.0)), 30)


def table() -> list[Fault]:
    """Return the faults of this module."""
    hold = frozenset({HOLD, DISARMED})  # disarmed if the tracking tolerance was exceeded before the stop
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
