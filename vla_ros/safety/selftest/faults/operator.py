"""Operator actions: emergency stop, release, reset, arm, disarm; and a restart of the layer."""

from __future__ import annotations

import numpy as np

from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import CHUNK_TICKS
from vla_ros.safety.selftest.trial import DISARMED, ESTOP, HOLD, RUN, Fault, Trial

REST = 40
"""Ticks for the arm to come to rest."""


def _press(trial: Trial) -> None:
    trial.shadow.supervisor.press_estop(trial.shadow.now)
    trial.tick()


def _press_and_go_on(trial: Trial) -> None:
    """The policy continues as if nothing had happened."""
    _press(trial)
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), REST)
    trial.require(not trial.moves, "chunks move the arm in an emergency stop")


def _release(trial: Trial) -> None:
    _press_and_go_on(trial)
    trial.shadow.supervisor.release_estop(trial.shadow.now)
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), 2 * CHUNK_TICKS)
    trial.require(not trial.moves, "releasing the button moves the arm")


def _reset_while_pressed(trial: Trial) -> None:
    _press(trial)
    trial.tick(REST)
    trial.answer(trial.shadow.supervisor.reset(trial.shadow.now))
    trial.tick()


def _arm_while_latched(trial: Trial) -> None:
    _release(trial)
    trial.answer(trial.shadow.supervisor.arm(trial.shadow.now))
    trial.tick()


def _reset_in_motion(trial: Trial) -> None:
    """Reset immediately: a slow arm is at rest one tick later."""
    trial.shadow.supervisor.press_estop(trial.shadow.now)
    trial.shadow.supervisor.release_estop(trial.shadow.now)
    trial.answer(trial.shadow.supervisor.reset(trial.shadow.now))
    trial.tick()


def _reset(trial: Trial) -> None:
    _release(trial)
    trial.answer(trial.shadow.supervisor.reset(trial.shadow.now))
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), 2 * CHUNK_TICKS)


def _arm_again(trial: Trial) -> None:
    """Reset and arm: only fresh chunks move the arm, and the first step is at most one tick of motion."""
    _reset(trial)
    shadow, supervisor = trial.shadow, trial.shadow.supervisor
    trial.require(supervisor.arm(shadow.now) is Reason.OK, "it cannot be armed again")
    trial.tick(5)
    trial.require(supervisor.state is HOLD and not trial.moves, "it moves before a chunk has come")
    trial.follow(lambda _: shadow.way((0.0, 0.02, 0.0)), 3 * CHUNK_TICKS)
    trial.require(trial.moves, "it does not move with fresh chunks")


def _disarm(trial: Trial) -> None:
    trial.shadow.supervisor.disarm(trial.shadow.now)
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), REST)


def _layer_again(trial: Trial) -> None:
    """The layer crashes in motion and is restarted: disarmed, then armed from the measured posture at rest."""
    shadow = trial.shadow
    shadow.restart_layer()
    shadow.wait(shadow.supervisor.settling_ticks)
    trial.require(shadow.supervisor.arm(shadow.now) is Reason.MOVING, "it is armed while the arm still moves")
    shadow.velocities = shadow.velocities * 0.0
    for _ in range(10):  # the controller has stopped it somewhere else than commanded
        shadow.q = shadow.q + 0.002
        shadow.wait(1)
    shadow.commands.clear()
    shadow.commands.append(shadow.q.copy())
    shadow.wait(shadow.supervisor.settling_ticks)
    trial.require(shadow.supervisor.arm(shadow.now) is Reason.OK, "it cannot be armed again")
    trial.tick()
    trial.require(bool((shadow.commands[-1] == shadow.commands[0]).all()), "it does not begin where the arm is")
    trial.follow(lambda _: shadow.way((0.0, 0.01, 0.0)), 3 * CHUNK_TICKS)


def _armed_in_its_stop(trial: Trial) -> None:
    """Disarm in motion and arm again at once, with a lagging sensor that shows rest: the stop is completed first."""
    shadow, supervisor = trial.shadow, trial.shadow.supervisor
    supervisor.disarm(shadow.now)
    moving, shadow.velocities = shadow.velocities, np.zeros_like(shadow.q)
    shadow.wait(supervisor.settling_ticks)
    shadow.velocities = moving
    trial.require(trial.answer(supervisor.arm(shadow.now)) is Reason.DISARMING, "it is armed in mid-stop")
    trial.tick(REST)


def table() -> list[Fault]:
    """Return the faults of this module."""
    latched, pressed = frozenset({Reason.ESTOP_LATCHED}), frozenset({Reason.ESTOP_PRESSED})
    stop = frozenset({ESTOP})
    return [
        Fault("emergency stop in motion", _press, stop, pressed),
        Fault("chunks in an emergency stop", _press_and_go_on, stop, pressed),
        Fault("emergency stop released without a reset", _release, stop, latched),
        Fault("reset while the button is pressed", _reset_while_pressed, stop, pressed),
        Fault("arming in a latched emergency stop", _arm_while_latched, stop, latched),
        Fault("reset while the arm still moves", _reset_in_motion, stop, frozenset({Reason.MOVING})),
        Fault("chunks after the reset", _reset, frozenset({DISARMED}), frozenset({Reason.DISARMED})),
        Fault("reset, armed again, fresh chunks", _arm_again, frozenset({RUN}), frozenset({Reason.OK})),
        Fault("the layer dies and is started again", _layer_again, frozenset({RUN}), frozenset({Reason.OK})),
        Fault(
            "disarmed and armed at once, in motion",
            _armed_in_its_stop,
            frozenset({DISARMED, HOLD}),
            frozenset({Reason.DISARMING}),
        ),
        Fault("disarmed in motion", _disarm, frozenset({DISARMED}), frozenset({Reason.DISARMING})),
    ]
