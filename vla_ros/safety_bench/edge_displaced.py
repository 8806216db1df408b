"""Edge cases in which the arm is not at its commanded position: hand-guided, moved in a gap, or blocked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.judge import broken_limits
from vla_ros.safety.selftest.shadow import STEP, Shadow
from vla_ros.safety.watch.policy import Condition
from vla_ros.safety_bench.edge_session import MOVING, Session
from vla_ros.safety_bench.edges import EdgeCase, EdgeTrial
from vla_ros.types import SafetyState

Play = Callable[[EdgeTrial], None]

PRESSED = 1e-3
"""Largest difference of an arm from its command while it presses on nothing, rad."""


def displaced_cases() -> tuple[EdgeCase, ...]:
    """Return the edge cases of this module."""
    return (
        EdgeCase(4, "guided by hand in a hold, and released", _guided),
        EdgeCase(4, "guided by hand in an emergency stop, and released", _guided_in_stop),
        EdgeCase(5, "disarmed as soon as a contact is found", _contact_then(_disarm)),
        EdgeCase(5, "emergency stop as soon as a contact is found", _contact_then(_press)),
    )


def _guided(trial: EdgeTrial) -> None:
    """On HOLD the arm is moved by 0.8 rad and released: nothing may jump, and nothing may resume by itself."""
    session = Session(trial)
    session.under_way(trial)
    shadow = session.shadow
    shadow.heart = None
    for _ in range(60):
        shadow.tick()
    shadow.heart = Condition.RUNNING
    for _ in range(100):  # by hand, slowly, against the controller
        moved = shadow.q + 0.008 * np.eye(len(shadow.q))[0]
        shadow.tick(sense=False)
        shadow.put(moved)
        shadow.sense()
    guided, mark = shadow.q.copy(), len(shadow.steps)
    session.move(100)
    after = [step.positions for _, step in shadow.steps[mark:]]
    tolerance = trial.parameters.motion.tracking_tolerance
    snapped = max((float(np.abs(row - guided).max()) for row in after[:1]), default=0.0)
    trial.require(snapped <= tolerance, f"the first command after the release is {snapped:.2f} rad away from the arm")
    trial.require(shadow.supervisor.state not in MOVING, "it went on by itself after the arm was moved")


def _guided_in_stop(trial: EdgeTrial) -> None:
    """A latched emergency stop must not drive a hand-guided arm back to its old command."""
    session = Session(trial)
    session.under_way(trial)
    shadow = session.shadow
    shadow.supervisor.press_estop(shadow.now)
    for _ in range(60):
        shadow.tick()
    for _ in range(60):
        moved = shadow.q + 0.008 * np.eye(len(shadow.q))[0]
        shadow.tick(sense=False)
        shadow.put(moved)
        shadow.sense()
    mark = len(shadow.steps)
    for _ in range(30):
        decision = shadow.tick()
    trial.require(len(shadow.steps) == mark, "a posture that the arm has left is commanded in an emergency stop")
    trial.require(decision.state is SafetyState.ESTOP, f"the emergency stop has ended: {decision.state.name}")


def moved_in_gap(trial: EdgeTrial) -> None:
    """The layer stalls, its controller releases, somebody moves the arm: no further commands may follow."""
    for state in ("HOLD", "RUN", "ESTOP"):
        for angle in (0.05, 0.5):
            session = Session(trial)
            session.under_way(trial)
            shadow = session.shadow
            if state == "HOLD":
                shadow.heart = None
            elif state == "ESTOP":
                shadow.supervisor.press_estop(shadow.now)
            session.move(60, 0.0)
            trial.require(shadow.supervisor.state.name == state, f"{shadow.supervisor.state.name} in place of {state}")
            shadow.now, shadow.stamp = shadow.now + 5.0, shadow.stamp + 5.0
            shadow.coast()
            shadow.put(shadow.q + angle * np.eye(len(shadow.q))[0])
            mark = len(shadow.steps)
            for _ in range(60):
                shadow.tick()
            trial.require(len(shadow.steps) == mark, f"commanded on in {state}, {angle} rad from the arm")


def _disarm(shadow: Shadow) -> None:
    shadow.supervisor.disarm(shadow.now)


def _press(shadow: Shadow) -> None:
    shadow.supervisor.press_estop(shadow.now)


def _contact_then(order: Callable[[Shadow], None]) -> Play:
    """The arm must not be left pressing on an obstacle, whichever request follows, and whenever."""

    def play(trial: EdgeTrial) -> None:
        for delay in (0, 3, 20):
            shadow = Shadow(trial.contract, trial.parameters)
            shadow.move()
            shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
            for i in range(60):
                if i % 10 == 0:
                    shadow.ask(shadow.way((0.0, STEP, 0.0)))
                if shadow.tick().reason == Reason.CONTACT.label:
                    break
            trial.require(shadow.supervisor.reason is Reason.CONTACT, "no contact was found")
            for _ in range(delay):
                shadow.tick()
            order(shadow)
            for _ in range(150):
                shadow.tick()
            pressed = float(np.abs(shadow.commands[-1] - shadow.q).max())
            trial.require(pressed <= PRESSED, f"left pressing, its command {1e3 * pressed:.1f} mrad ahead of the arm")
            trial.complaints += broken_limits(shadow)

    return play
