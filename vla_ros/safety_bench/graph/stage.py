"""A running graph with operator, recorder and referee: prepares motion, waits, and judges the commands."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from std_srvs.srv import Trigger

from vla_ros.bringup.runner import GraphRunner
from vla_ros.client.observer import MOVING, Observer
from vla_ros.client.operator_client import Operator
from vla_ros.errors import InstructionError
from vla_ros.msg import SafetyStatus
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.transitions import GraphError
from vla_ros.safety.reasons import Reason
from vla_ros.safety_bench.fuzz import CONTROLLERS
from vla_ros.safety_bench.graph.recorder import Recorder
from vla_ros.safety_bench.referee.referee import Judgement, Referee
from vla_ros.safety_bench.referee.reference_limits import KINDS
from vla_ros.srv import ResetScene
from vla_ros.types import FloatArray

NO_FAULT = (Reason.TRUST_LOW.label, Reason.ESTOP_PRESSED.label, Reason.ESTOP_LATCHED.label)
"""Reasons that are not a fault: an arm that does not start moving for one of them is retried in another scene."""

FRESH = 0.1
"""Time after the removal of a fault, s, from which measurements are no longer affected by it."""

READY_LIMIT = 20.0
"""Wall-clock limit for one preparation step, s."""

SCENES, SCENE_STRIDE = 3, 1000
"""Number of scenes to try, and the distance between their seeds."""

UNDER_WAY = 0.05
"""Speed of the fastest joint from which the arm counts as moving, rad/s."""

SETTLE = 0.3
"""Settling time of a new scene, s."""


@dataclass
class Findings:
    """Findings of the referee in the commands of one attempt.

    If commands were lost on the way to the recording, each piece between two gaps is judged on its own.
    """

    commands: int = 0
    lost: int = 0
    violations: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)

    def add(self, other: Findings) -> None:
        """Add the findings of another attempt."""
        self.commands += other.commands
        self.lost += other.lost
        self.violations += other.violations
        for kind, count in other.by_kind.items():
            self.by_kind[kind] = self.by_kind.get(kind, 0) + count


class Stage:
    """Operates one running graph for an experiment."""

    def __init__(self, graph: GraphRunner, contract: RobotContract, referee: Referee) -> None:
        """Join the graph."""
        self.graph, self.contract, self._referee = graph, contract, referee
        self.observer = Observer(graph.node)
        self.operator = Operator(graph.node, self.observer)
        self.recorder = Recorder(graph.node, contract, referee.period)
        self._scene = graph.node.create_client(ResetScene, "/sim/reset_scene")
        self._reset = graph.node.create_client(Trigger, "/vla/reset")

    def prepare(self, seed: int) -> None:
        """Set up a fresh scene and bring the arm into motion by the documented procedure.

        A scene in which the policy does not see the target is not a fault, nor is a button that a busy machine kept
        from publishing: the next scene is tried.

        Raises:
            GraphError: when it fails in time, or in all of `SCENES` scenes.
        """
        for number in range(SCENES):
            try:
                self._begin(seed + number * SCENE_STRIDE)
                return
            except GraphError:
                if self.observer.safety.reason not in NO_FAULT or number == SCENES - 1:
                    raise

    def _begin(self, seed: int) -> None:
        with contextlib.suppress(InstructionError):
            self.operator.say("stop", READY_LIMIT)
        self.leave_estop()
        self.operator.disarm()
        self.wait_for(lambda: self.observer.safety.state == SafetyStatus.DISARMED, "the arm was not disarmed")
        answer = self.operator.call(self._scene, ResetScene.Request(seed=seed))
        time.sleep(SETTLE)
        self.recorder.begin()
        self.operator.arm(READY_LIMIT)
        self.operator.say(str(answer.instruction), READY_LIMIT)
        self.wait_until_moving()

    def wait_until_moving(self, limit: float = READY_LIMIT) -> None:
        """Wait until the policy is followed and the arm moves.

        Raises:
            GraphError: when it does not within `limit` s.
        """
        self.wait_for(
            lambda: self.observer.safety.state in MOVING and self.recorder.speed() > UNDER_WAY,
            "the arm did not get under way",
            limit,
        )

    def wait_for(self, condition: Callable[[], bool], complaint: str, limit: float = READY_LIMIT) -> None:
        """Wait for `condition`.

        Raises:
            GraphError: after `limit` s, with `complaint` and the safety layer's status sentence.
        """
        if not self.observer.wait(condition, limit):
            raise GraphError(f"{complaint}: {self.observer.safety.sentence}")

    def leave_estop(self) -> None:
        """Reset an emergency stop, if there is one, as soon as possible.

        Raises:
            GraphError: when the reset is refused for `READY_LIMIT` s.
        """
        end = time.monotonic() + READY_LIMIT
        while self.observer.safety.state == SafetyStatus.ESTOP:
            answer = self.operator.call(self._reset, Trigger.Request())
            if answer.success:
                self.wait_for(lambda: self.observer.safety.state != SafetyStatus.ESTOP, "the reset has no effect")
            elif time.monotonic() > end:
                raise GraphError(f"the emergency stop cannot be reset: {answer.message}")
            time.sleep(0.1)

    def rearm(self) -> None:
        """Disarm and arm again: the documented recovery after something else has moved the arm.

        Raises:
            GraphError: when it cannot be armed.
        """
        self.operator.disarm()
        self.wait_for(lambda: self.observer.safety.state == SafetyStatus.DISARMED, "the arm was not disarmed")
        at = time.monotonic()
        self.wait_for(lambda: self.recorder.measured_at > at + FRESH, "the arm is not measured")
        self.recorder.begin()
        self.operator.arm(READY_LIMIT)
        self.wait_for(lambda: self.observer.safety.state != SafetyStatus.DISARMED, "the arm is not armed for long")

    def signal(self, node: str, number: signal.Signals) -> None:
        """Send a signal to the process of a node."""
        self.graph.process(node).signal(number)

    def judge(self) -> Findings:
        """Judge all commands since the recording began."""
        recorder = self.recorder
        pieces = recorder.pieces()
        if not pieces:
            return Findings()
        judged = Judgement()
        for number, piece in enumerate(pieces):
            judged.add(self._referee.judge(piece, moving=number > 0))
        found = dict(judged.violations)
        if trajectories := list(recorder.trajectories):
            unheard = [index for index in list(recorder.unheard) if index < len(trajectories)]
            timed = self._referee.judge_trajectories(
                trajectories, start=trajectories[0].positions[0], controllers=CONTROLLERS, unheard=unheard
            )
            found |= {kind: timed.violations[kind] for kind in KINDS if kind in timed.violations}
        kinds = {kind: count for kind, count in found.items() if count}
        if kinds:
            self._keep(np.concatenate(pieces))
        return Findings(judged.commands, recorder.lost, sum(found.values()), kinds)

    def _keep(self, commands: FloatArray) -> None:
        """Save a recording with violations for inspection."""
        path = self.graph.folder / f"violations_{len(list(self.graph.folder.glob('violations_*.npz')))}.npz"
        said = [one for one in list(self.recorder.said) if one.executed]
        np.savez_compressed(
            path,
            commands=commands,
            heard=np.array(self.recorder.heard),
            steady=np.array([one.steady for one in said]),
            counted=np.array([one.commands for one in said]),
            overruns=np.array([one.overruns for one in said]),
            executed=np.array([one.executed for one in said]),
        )
