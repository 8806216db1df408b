"""Posture faults at arming: outside of the limits, pushed, in collision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.faults.places import UNBOUNDED
from vla_ros.safety.selftest.trial import DISARMED, MOVING, Fault, Trial
from vla_ros.types import FloatArray

INSIDE = 0.2
"""Distance inside its limit to which the joint is asked back, rad."""


def _beyond(excess: float) -> Callable[[RobotContract], FloatArray]:
    """Return a posture with the fourth joint `excess` rad beyond its upper limit."""

    def posture(contract: RobotContract) -> FloatArray:
        q = np.array(contract.joints.home)
        q[3] = contract.joints.upper[3] + excess
        return q

    return posture


def _way_back(trial: Trial) -> None:
    """Send plans to the tool pose that only requires this joint to move back inside."""
    shadow = trial.shadow
    horizon = shadow.contract.action.horizon
    trial.answer(shadow.start())
    before = shadow.q[3] - shadow.contract.joints.upper[3]
    inside = shadow.q.copy()
    inside[3] = shadow.contract.joints.upper[3] - INSIDE
    goal = shadow.kinematics.forward(inside)
    places = np.tile(goal.position, (horizon, 1))
    for i in range(shadow.ticks(trial.pace.ticks(120))):
        if i % trial.shadow.chunk_ticks == 0:
            joints = shadow.joint_actions(np.tile(inside, (horizon, 1))) if shadow.of_joints else None
            trial.send(shadow.actions(places, quaternion=goal.quaternion) if joints is None else joints)
        trial.tick()
    trial.answer(shadow.supervisor.reason)
    after = shadow.q[3] - shadow.contract.joints.upper[3]
    trial.require(after <= 0.0 < before, f"the joint did not come back: {before:.3f} rad outside, then {after:.3f}")


def _refused_arming(trial: Trial) -> None:
    shadow = trial.shadow
    shadow.wait(shadow.supervisor.settling_ticks)
    trial.answer(shadow.supervisor.arm(shadow.now))
    trial.tick()


def _pushed(trial: Trial) -> None:
    trial.shadow.velocities = np.full_like(trial.shadow.q, 0.1)
    _refused_arming(trial)


def _creeping(trial: Trial) -> None:
    """The arm moves while its driver reports zero velocity."""
    shadow = trial.shadow
    way = 4.0 * shadow.parameters.motion.arming_speed * shadow.period
    for _ in range(shadow.supervisor.settling_ticks):
        shadow.q = shadow.q + way
        shadow.wait(1)
    trial.answer(shadow.supervisor.arm(shadow.now))
    trial.tick()


def _false(last: int) -> Callable[[Trial], None]:
    """Send one wrong joint state around arming: the newest one, or the one `last` states before."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        shadow.wait(shadow.supervisor.settling_ticks)
        shadow.pass_time()
        shadow.sense(shadow.state(positions=shadow.q + 0.4))
        shadow.wait(last)
        trial.answer(shadow.supervisor.arm(shadow.now))
        trial.tick()

    return play


def _two_publishers(trial: Trial) -> None:
    """Joint states of another arm come between this one's."""
    shadow = trial.shadow
    for _ in range(shadow.supervisor.settling_ticks):
        shadow.wait(1)
        shadow.sense(shadow.state(positions=shadow.q + 0.1, stamp=shadow.stamp + 1e-4))
        trial.answer(shadow.supervisor.arm(shadow.now))
    trial.tick()


def table() -> list[Fault]:
    """Return the faults of this module."""
    disarmed = frozenset({DISARMED})
    return [
        Fault(
            "a joint starts outside of its limits and comes back",
            _way_back,
            MOVING,
            frozenset(Reason),
            moving=False,
            posture=_beyond(0.04),
            **UNBOUNDED,
        ),
        Fault(
            "a joint starts far outside of its limits",
            _refused_arming,
            disarmed,
            frozenset({Reason.OUTSIDE_LIMITS}),
            moving=False,
            posture=_beyond(0.2),
            **UNBOUNDED,
        ),
        Fault(
            "the driver reports no velocity, and the arm moves",
            _creeping,
            disarmed,
            frozenset({Reason.MOVING}),
            moving=False,
        ),
        Fault("the joint state at arming is false", _false(0), disarmed, frozenset({Reason.MOVING}), moving=False),
        Fault("a joint state before arming was false", _false(5), disarmed, frozenset({Reason.MOVING}), moving=False),
        Fault(
            "joint states of two arms at arming", _two_publishers, disarmed, frozenset({Reason.MOVING}), moving=False
        ),
        Fault("the arm is pushed while it is armed", _pushed, disarmed, frozenset({Reason.MOVING}), moving=False),
    ]
