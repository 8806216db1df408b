"""Fuzzes every input of the safety layer; the referee checks the output. Reproducible by seed.

The arm lags and its driver occasionally reports wrong values (`plants.py`); it is armed, disarmed and rearmed at random
times. The output is checked twice: as equally spaced commands, from each arming on, and as trajectory controllers would
follow the node's messages, including late ones, where the first command after each arming is compared with the last
one and with the true arm.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.errors import VlaError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.inverse_kinematics import nearest_posture
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.command_trajectory import command_trajectory
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.watch.policy import Condition
from vla_ros.safety_bench.plants import Lie, Plant, PlantShadow
from vla_ros.safety_bench.referee.referee import Judgement, Referee
from vla_ros.safety_bench.referee.reference_limits import Arming
from vla_ros.safety_bench.referee.trajectory_controller import (
    Release,
    Replacement,
    TimedTrajectory,
    TrajectoryControllerModel,
)
from vla_ros.types import FloatArray, Instruction, InstructionKind, Pose, SafetyState

NASTY = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, 0.0, -0.0, 1e9, 7.0])
"""Values that often break programs."""

WIDTH = 0.02
"""Relative width of a histogram bin of durations."""

CONTROLLERS = (
    TrajectoryControllerModel(1000.0),
    TrajectoryControllerModel(500.0, phase=0.4),
    TrajectoryControllerModel(500.0, Release.JAZZY, Replacement.DEFERRED, phase=0.7),
)
"""Controller models used for the check: releases differ only where a trajectory has not begun yet."""

LATENCY = 2e-4
"""Transport delay from a trajectory's publication to its arrival at the controller, s."""

JITTER = 1e-3
"""Standard deviation of the delay from a tick to its publication, s: half-normal, capped at the tick budget."""

LAGS, DELAYS = (0.0, 0.0, 0.02, 0.06), (0, 0, 1, 4)
"""Lags and delays of the arms, s and control periods."""

LONGEST_LIE = 200
"""Maximum duration of a wrong driver report, ticks."""

PATIENCE = 200
"""Number of ticks after which a segment begins even though the arm was not armed."""

SEGMENT = 2000
"""Number of ticks with one supervisor before a new one starts."""


@dataclass
class Durations:
    """Histogram of durations, ms, with bins 2 % wide: a million of them fit into a few lines."""

    counts: dict[int, int] = field(default_factory=dict)

    def take(self, milliseconds: float) -> None:
        """Add one duration."""
        bin = round(math.log(max(milliseconds, 1e-6)) / WIDTH)
        self.counts[bin] = self.counts.get(bin, 0) + 1

    def add(self, other: Durations) -> None:
        """Add the counts of another histogram."""
        for bin, count in other.counts.items():
            self.counts[bin] = self.counts.get(bin, 0) + count

    def quantile(self, share: float) -> float:
        """Return the quantile at the fraction `share`, ms; 0 when there are no durations."""
        left = share * sum(self.counts.values())
        for bin in sorted(self.counts):
            left -= self.counts[bin]
            if left <= 0.0:
                return math.exp(bin * WIDTH)
        return 0.0


@dataclass
class FuzzReport:
    """Result: ticks by state and by reason, referee's findings, exceptions, answers to arming, tick durations.

    The durations are CPU time of the thread, ms: other load on the machine does not count.
    """

    ticks: int = 0
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    judgement: Judgement = field(default_factory=Judgement)
    raised: list[str] = field(default_factory=list)
    armings: Counter[str] = field(default_factory=Counter)
    tick_ms: Durations = field(default_factory=lambda: Durations())

    def add(self, other: FuzzReport) -> None:
        """Add another report."""
        self.ticks += other.ticks
        self.states.update(other.states)
        self.reasons.update(other.reasons)
        self.judgement.add(other.judgement)
        self.raised += other.raised
        self.armings.update(other.armings)
        self.tick_ms.add(other.tick_ms)

    def figures(self) -> dict[str, object]:
        """Return the metrics as plain values."""
        p50, p99 = self.tick_ms.quantile(0.5), self.tick_ms.quantile(0.99)
        return {
            "ticks": self.ticks,
            "commands": self.judgement.commands,
            "violations": self.judgement.total,
            "violations_by_kind": self.judgement.violations,
            "worst": self.judgement.worst,
            "raised": len(self.raised),
            "first_raised": self.raised[:3],
            "armings": dict(self.armings.most_common()),
            "states": dict(self.states),
            "reasons": dict(self.reasons.most_common()),
            "tick_ms_p50": round(p50, 3),
            "tick_ms_p99": round(p99, 3),
        }

    def values(self) -> dict[str, Any]:
        """Return all fields as plain values; `from_values` is the inverse."""
        return {
            "ticks": self.ticks,
            "states": dict(self.states),
            "reasons": dict(self.reasons),
            "judgement": asdict(self.judgement),
            "raised": self.raised,
            "armings": dict(self.armings),
            "tick_ms": asdict(self.tick_ms),
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> FuzzReport:
        """Create a report from the output of `values`."""
        return cls(
            int(values["ticks"]),
            Counter(values["states"]),
            Counter(values["reasons"]),
            Judgement(**values["judgement"]),
            list(values["raised"]),
            Counter(values["armings"]),
            Durations({int(bin): int(count) for bin, count in values["tick_ms"]["counts"].items()}),
        )


def fuzz(
    contract: RobotContract,
    parameters: SafetyParameters,
    ticks: int,
    seed: int = 0,
    progress: Callable[[int], object] = lambda ticks: None,
) -> FuzzReport:
    """Fuzz for `ticks` ticks in segments, each with its own supervisor and random stream.

    Args:
        contract: Robot contract.
        parameters: Parameters of the safety layer.
        ticks: Number of ticks.
        seed: Determines every random choice.
        progress: Called after each segment with its number of ticks.
    """
    report, referee = FuzzReport(), Referee(contract, parameters.timing.period)
    for number, first in enumerate(range(0, ticks, SEGMENT)):
        count = min(SEGMENT, ticks - first)
        report.add(fuzz_segment(contract, parameters, referee, count, (seed, number)))
        progress(count)
    return report


def fuzz_segment(
    contract: RobotContract, parameters: SafetyParameters, referee: Referee, ticks: int, seed: tuple[int, int]
) -> FuzzReport:
    """Run one segment and check its output."""
    rng = np.random.default_rng(seed)
    plant = _draw_plant(contract, rng)
    arms = [arm.name for arm in contract.arms]
    led = contract.led_by(arms[int(rng.integers(len(arms)))]) if len(arms) > 1 else contract
    shadow = PlantShadow(led, parameters, plant)
    gremlin, report = Gremlin(shadow, rng), FuzzReport(ticks)
    gremlin.start()
    for _ in range(ticks):
        try:
            with np.errstate(all="ignore"):
                gremlin.play()
                began = time.thread_time()
                decision = shadow.tick()
                report.tick_ms.take(1e3 * (time.thread_time() - began))
        except Exception as error:
            report.raised.append(f"{type(error).__name__}: {error}")
            continue
        report.states[decision.state.name] += 1
        report.reasons[decision.reason] += 1
        gremlin.recover(decision.state)
    report.armings = gremlin.answers
    report.judgement = judge_run(referee, shadow, gremlin.armings)
    return report


def _draw_plant(contract: RobotContract, rng: np.random.Generator) -> Plant:
    """Return a plant with a random lag and delay per arm."""
    joints = [arm.joints.count for arm in contract.arms]
    lags = [float(rng.choice(LAGS)) for _ in joints]
    delays = [int(rng.choice(DELAYS)) for _ in joints]
    return Plant(np.repeat(lags, joints), np.repeat(delays, joints))


def judge_run(referee: Referee, shadow: PlantShadow, armings: list[Arming]) -> Judgement:
    """Check the commands from each arming on, as such and as trajectory controllers follow them."""
    judgement, jitter = Judgement(), np.random.default_rng(len(shadow.steps))
    times = np.array([now for now, _ in shadow.steps])
    trajectories: list[TimedTrajectory] = []
    begins = [int(np.searchsorted(times, arming.time)) for arming in armings]
    for first, end in zip([0, *begins], [*begins, len(times)], strict=True):
        session = shadow.steps[first:end]
        if not session:
            continue
        rows = slice(shadow.marks[first], shadow.marks[end - 1] + 1)
        judgement.add(referee.judge(np.array(shadow.commands[rows]), np.array(shadow.all_openings[rows])))
        late = np.minimum(np.abs(jitter.normal(0.0, JITTER, len(session))), shadow.parameters.timing.tick_budget)
        published = [(step, now + delay) for (now, step), delay in zip(session, late.tolist(), strict=True)]
        trajectories += timed_trajectories(published, shadow.period)
    timed = (
        referee.judge_trajectories(trajectories, armings=armings, start=shadow.commands[0], controllers=CONTROLLERS)
        if trajectories
        else Judgement()
    )
    timed.commands = 0
    judgement.add(timed)
    return judgement


def timed_trajectories(published: Iterable[tuple[JointStep, float]], period: float) -> list[TimedTrajectory]:
    """Return the trajectories that a controller receives for steps with their times of publication, s, in order."""
    received, waiting = [], -np.inf
    for step, at in published:
        sent = command_trajectory(step, period, at, waiting)
        waiting = sent.stamp
        received.append(
            TimedTrajectory(at + LATENCY, sent.stamp, sent.times, sent.positions, sent.velocities, sent.accelerations)
        )
    return received


class Gremlin:
    """Plays a policy, a driver, an operator and two clocks that randomly misbehave."""

    def __init__(self, shadow: PlantShadow, rng: np.random.Generator) -> None:
        """Fuzz the dry run `shadow` with `rng`."""
        self._shadow, self._rng = shadow, rng
        self.armings: list[Arming] = []
        self.answers: Counter[str] = Counter()
        self._lie_left = 0
        self._goal: FloatArray = shadow.pose().position
        self._posture: FloatArray = np.array(shadow.q)  # target posture of joint-space plans, rad
        self._arms = shadow.contract.arms
        # With several arms, the tool of each; the dry run's own kinematics are those of one arm.
        names = [arm.name for arm in self._arms] if len(self._arms) > 1 else []
        self._tools = [Kinematics(shadow.contract.led_by(name)) for name in names]

    def start(self) -> None:
        """Arm as documented; give up after `PATIENCE` attempts."""
        shadow = self._shadow
        shadow.wait(shadow.parameters.timing.resume_states + 1)
        while not shadow.supervisor.armed and not self.answers.total() > PATIENCE:
            self._arm()
            shadow.wait(1)

    def play(self) -> None:
        """Inject random inputs before one tick."""
        shadow, rng = self._shadow, self._rng
        self._lie()
        if rng.random() < 0.01:
            self._arm()
        if rng.random() < 0.003:  # in motion: both arrive before the arm has come to rest
            shadow.supervisor.disarm(shadow.now)
            self._arm()
        if rng.random() < 0.12:
            self._send()
        if rng.random() < 0.003:
            self._operate()
        if rng.random() < 0.003:
            self._measure()
        if rng.random() < 0.002:
            shadow.now += float(rng.choice([0.05, 0.2, 3.0]))
            shadow.coast()
        if rng.random() < 0.004:
            shadow.heart = rng.choice([None, *Condition])
            shadow.computing = bool(rng.random() < 0.2)
        if rng.random() < 0.05:
            shadow.heart, shadow.computing = Condition.RUNNING, False
        if rng.random() < 0.001:
            shadow.stamp += float(rng.choice([-0.5, 0.3, 3600.0, -3600.0]))

    def recover(self, state: SafetyState) -> None:
        """Operate as documented, sooner or later: reset, arm. An arm at rest between sessions stays in place."""
        supervisor, now = self._shadow.supervisor, self._shadow.now
        if state is SafetyState.DISARMED:
            self._arm()
        elif state is SafetyState.ESTOP and self._rng.random() < 0.05:
            supervisor.reset(now)

    def _arm(self) -> None:
        shadow = self._shadow
        if shadow.supervisor.armed or shadow.first_posture.hides_fault:
            return
        answer = shadow.supervisor.arm(shadow.now)
        self.answers[answer.label] += 1
        if answer is Reason.OK:
            last = shadow.commands[-1] if shadow.steps else None
            self.armings.append(Arming(shadow.now, last, shadow.q.copy()))

    def _lie(self) -> None:
        """Occasionally make the driver report wrong values for a while."""
        plant, rng = self._shadow.plant, self._rng
        self._lie_left -= 1
        if self._lie_left <= 0:
            plant.lie = Lie.NONE
        if rng.random() < 0.004:
            plant.lie = Lie(rng.choice([lie.value for lie in Lie]))
            self._lie_left = int(rng.integers(2, LONGEST_LIE))
            plant.offset = np.zeros(len(plant.q))
            plant.offset[int(rng.integers(0, len(plant.q)))] = rng.choice([-0.4, -0.05, 0.02, 0.1, 0.5])
            first, second = rng.choice(len(plant.q), 2, replace=False).tolist()
            plant.swapped = (first, second)
            plant.lying = self._lying_joints(int(np.flatnonzero(plant.offset)[0])) if self._tools else None

    def _lying_joints(self, joint: int) -> NDArray[np.bool_] | None:
        """Return the joints (n,) bool of this joint's arm, whose driver alone reports wrongly, or None for all."""
        if self._rng.random() < 0.3:
            return None
        owners = self._shadow.contract.joint_owners
        return np.asarray(owners == owners[joint])

    def _send(self) -> None:
        shadow, rng = self._shadow, self._rng
        if shadow.of_joints:
            self._send_joints()
            return
        kind = rng.random()
        if kind < 0.4:
            self._goal = rng.uniform([0.1, -0.7, -0.2], [1.0, 0.7, 0.9])
        rows = int(rng.integers(1, shadow.contract.action.horizon + 1))
        here = shadow.pose()
        way = here.position + np.outer(np.linspace(0.0, 1.0, rows + 1)[1:], self._goal - here.position)
        actions = shadow.actions(way, rng.uniform(-0.02, 0.1, rows))
        actions[:, 3:6] += rng.normal(0.0, rng.choice([0.0, 0.1, 1.0]), (rows, 3))
        actions, changes = self._spoiled(actions, kind)
        start = here if rng.random() > 0.02 else Pose(here.position, rng.choice([0.0, 1.0, np.nan, 1e300], 4))
        shadow.send(shadow.chunk(changes.pop("actions", actions), **changes), start)

    def _send_joints(self) -> None:
        """Send a plan to a random posture, possibly beyond the limits, or to one with the tool at a random place."""
        shadow, rng, joints = self._shadow, self._rng, self._shadow.contract.joints
        kind = rng.random()
        rows = int(rng.integers(1, shadow.contract.action.horizon + 1))
        if kind < 0.06:  # rarely: it takes a while to get there
            self._posture = rng.uniform(joints.lower - 0.3, joints.upper + 0.3)
        elif kind < 0.09:  # one joint alone, from the current posture
            self._posture = np.array(shadow.q)
            self._posture[int(rng.integers(0, len(shadow.q)))] += rng.choice([-2.0, -0.5, 0.5, 2.0])
        elif kind < 0.12:
            place = rng.uniform([0.1, -0.7, -0.2], [1.0, 0.7, 0.9])
            turn = matrix_from_quaternion(shadow.pose().quaternion)
            self._posture = nearest_posture(shadow.kinematics, place, turn, shadow.q)
        elif kind < 0.2 and self._tools:
            self._posture = self._meeting()
        quick = float(rng.choice([0.1, 0.5, 1.0, 1.0]))  # fraction of the way covered by the chunk
        fractions = quick * np.linspace(0.0, 1.0, rows + 1)[1:, None]
        way = shadow.q + fractions * (self._posture - shadow.q)
        way = way + rng.normal(0.0, rng.choice([0.0, 0.0, 0.02, 0.3]), way.shape)
        wide = np.array([arm.gripper.max_opening for arm in self._arms])
        openings = rng.uniform(-0.25, 1.25, (rows, len(wide))) * wide
        actions, changes = self._spoiled(shadow.joint_actions(way, openings), kind)
        start = shadow.arm_start()
        if rng.random() < 0.02:
            start = replace(start, joint_positions=rng.choice([0.0, 1.0, np.nan, 1e300], len(way[0])))
        shadow.send(shadow.chunk(changes.pop("actions", actions), **changes), start)

    def _meeting(self) -> FloatArray:
        """Return joint positions (n,) rad that bring all tools as near as possible to one place.

        The place is in the overlap of all workspaces, or between them where they do not overlap.
        """
        boxes, q = [arm.cartesian for arm in self._arms], np.array(self._shadow.q)
        lower = np.max([box.workspace_lower for box in boxes], axis=0)
        upper = np.min([box.workspace_upper for box in boxes], axis=0)
        place = self._rng.uniform(np.minimum(lower, upper), np.maximum(lower, upper))
        for tool in self._tools:
            q = nearest_posture(tool, place, matrix_from_quaternion(tool.forward(q).quaternion), q)
        return q

    def _spoiled(self, actions: FloatArray, kind: float) -> tuple[FloatArray, dict[str, object]]:
        """Return a chunk's rows and changed fields; the larger `kind` (0 to 1), the worse they are."""
        shadow, rng = self._shadow, self._rng
        changes: dict[str, object] = {"instruction_sequence": shadow.instruction}
        if kind > 0.9:
            actions = actions + rng.normal(0.0, rng.choice([0.1, 1.0, 5.0]), actions.shape)
        if kind > 0.96:
            actions[tuple(int(rng.integers(0, size)) for size in actions.shape)] = rng.choice(NASTY)
        if kind > 0.98:
            changes |= self._nonsense()
        if rng.random() < 0.03:
            changes["trust"] = float(rng.choice([0.0, 0.1, 0.5, np.nan, -1.0, 2.0]))
        return actions, changes

    def _nonsense(self) -> dict[str, object]:
        """Return an invalid value for one field of a chunk."""
        shadow, rng = self._shadow, self._rng
        width = shadow.contract.action.width
        choices: list[dict[str, object]] = [
            {"observation_stamp": shadow.stamp + float(rng.choice([-10.0, -0.3, 0.02, 1.0, np.nan, np.inf]))},
            {"instruction_sequence": int(rng.integers(-3, 9))},
            {"sequence": int(rng.integers(-3, 9))},
            {"period": float(rng.choice(NASTY))},
            {"specification": "not this one"},
            {"actions": np.zeros((int(rng.integers(0, 40)), int(rng.integers(0, 20))))},
            {"actions": [[0.0] * width, [0.0]]},
            {"actions": np.full((3, width), "x")},
            {"actions": None},
            {"actions": rng.choice(NASTY, (3, width))},
        ]
        return choices[int(rng.integers(0, len(choices)))]

    def _operate(self) -> None:
        shadow, rng = self._shadow, self._rng
        supervisor, now = shadow.supervisor, shadow.now
        kind = int(rng.integers(0, 5))
        if kind == 0:
            supervisor.press_estop(now)
        elif kind == 1:
            supervisor.disarm(now)
        elif kind == 2:
            shadow.instruction += 1
            what = InstructionKind.STOP if rng.random() < 0.3 else InstructionKind.TASK
            supervisor.receive_instruction(Instruction("x", shadow.instruction, what, shadow.stamp), now)
        elif kind == 3:
            supervisor.reset(now)
        supervisor.release_estop(now)

    def _measure(self) -> None:
        shadow, rng = self._shadow, self._rng
        q = np.array(shadow.q)
        q[int(rng.integers(0, len(q)))] = rng.choice(NASTY)
        with contextlib.suppress(VlaError):
            shadow.sense(shadow.state(positions=q))
        with contextlib.suppress(VlaError):
            shadow.sense(
                shadow.state(opening=float(rng.choice(NASTY)), stamp=float(rng.choice([*NASTY, shadow.stamp])))
            )
        if rng.random() < 0.3:
            shadow.supervisor.refuse_state(shadow.now)
