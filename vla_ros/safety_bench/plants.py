"""Arms that lag behind their commands and drivers that report wrong values, around a dry run's supervisor.

plant = Plant(lag=0.05, delay=2)         # motion of the arm
shadow = PlantShadow(contract, parameters, plant)
plant.lie = Lie.FROZEN                   # driver's report from now on
shadow.tick()
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.measurement.measured_motion import SILENCE
from vla_ros.safety.measurement.posture_jumps import BASELINE, LARGEST_ACCELERATION, RESTART
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.types import FloatArray, RobotState, SafetyDecision

IntArray = NDArray[np.int64]


class Lie(Enum):
    """Driver fault: what it reports instead of the truth, with fresh stamps."""

    NONE = "the truth"
    FROZEN = "positions that do not change"
    OFFSET = "one joint off by a constant"
    SWAPPED = "two joints swapped"
    STILL = "a velocity of zero"
    SPEEDLESS = "a velocity that is not finite"
    ONE_FALSE = "one false state"
    ALTERNATING = "the truth and a joint off by a constant, in turns"
    SILENT = "nothing"


CONSTANT = frozenset({Lie.OFFSET, Lie.SWAPPED})
"""Faults indistinguishable from an arm at rest in another posture; see `FirstPosture`."""

UNSTEADY = frozenset({Lie.SPEEDLESS, Lie.ONE_FALSE, Lie.ALTERNATING, Lie.SILENT})
"""Faults during which no steady posture is reported."""


class FirstPosture:
    """Records whether the first posture a driver reported after a silence was the true one.

    Only that posture can show a constant fault of an arm at rest: when it begins, the joint jumps. Without it, an arm
    that was moved by hand during the silence reports the same, and no safety layer can distinguish the two.

    Attributes:
        true: Whether it was; None until one posture has been reported for `BASELINE` s.
        lie: Latest steady fault of the driver.
    """

    def __init__(self) -> None:
        """Start with a silent driver."""
        self.true: bool | None = None
        self.lie = Lie.NONE
        self._fault: object = None
        self._since = self._received = -math.inf

    @property
    def hides_fault(self) -> bool:
        """Whether the driver has a constant fault that cannot be distinguished from an arm at rest."""
        return self.lie in CONSTANT and not self.true

    def receive(self, lie: Lie, fault: object, error: float, now: float) -> None:
        """Record a report at `now`, s.

        Args:
            lie: Fault of the driver.
            fault: Identity of the fault: equal for two reports with the same fault.
            error: Largest difference between a reported and a true joint position, rad.
            now: Time of the report, s.
        """
        silence, self._received = now - self._received, now
        self.lie = self.lie if lie in UNSTEADY else lie
        continues = lie in CONSTANT and fault == self._fault  # a detected jump is remembered for RESTART
        if silence > RESTART or (silence > SILENCE and not continues):
            self.true, self._since = None, now
        if fault != self._fault:
            self._fault, self._since = fault, now
            # Distance that a hand may move a joint, from rest to rest, while the driver is silent.
            if lie in CONSTANT and error <= 0.25 * LARGEST_ACCELERATION * silence**2:
                self.true = None
        if self.true is None and lie not in UNSTEADY and now - self._since > BASELINE:
            self.true = lie in (Lie.NONE, Lie.STILL)


class Plant:
    """True arms: a pure delay of `delay` periods, then a first-order lag, then the driver's fault.

    Attributes:
        lie: Fault of the driver.
        offset: (n,) rad, for OFFSET, ONE_FALSE and ALTERNATING.
        swapped: Pair of joints, for SWAPPED.
        lying: (n,) bool, joints reported wrongly; None: all. No effect with SWAPPED; with SILENT the drivers of the
            other joints keep reporting.
    """

    def __init__(self, lag: FloatArray | float = 0.0, delay: IntArray | int = 0) -> None:
        """Create a plant with a delay in periods and a time constant `lag` in s, each for all joints or (n,)."""
        self._lag = np.atleast_1d(np.asarray(lag, dtype=np.float64))
        self._delay, self._waiting = np.asarray(delay, dtype=np.int64), deque[FloatArray]()
        self.lie = Lie.NONE
        self.offset: FloatArray = np.zeros(0)
        self.swapped = (0, 1)
        self.lying: NDArray[np.bool_] | None = None
        self._frozen: FloatArray | None = None
        self._turn = False

    @property
    def fault(self) -> tuple[object, ...]:
        """Identity of the driver's fault; it distinguishes two faults of one kind."""
        lying = None if self.lying is None else self.lying.tobytes()
        values = (self.offset.tobytes(), self.swapped, lying) if self.lie is not Lie.NONE else ()
        return (self.lie, *values)

    def place(self, positions: FloatArray) -> None:
        """Place the arm at joint positions (n,) rad, at rest."""
        self.q, self.velocities = np.array(positions, dtype=np.float64), np.zeros(len(positions))
        longest = int(self._delay.max()) + 1
        self._waiting = deque([self.q] * longest, maxlen=longest)

    def follow(self, command: FloatArray, period: float) -> None:
        """Follow a command (n,) rad for one period."""
        self._waiting.append(np.array(command))
        delays = np.broadcast_to(self._delay, len(command))
        target = np.array(list(self._waiting))[len(self._waiting) - 1 - delays, np.arange(len(command))]
        fraction = np.array([_followed(lag, period) for lag in self._lag.tolist()])
        before, self.q = self.q, self.q + fraction * (target - self.q)
        self.velocities = (self.q - before) / period

    def report(self) -> tuple[FloatArray, FloatArray] | None:
        """Return the positions (n,) rad and velocities (n,) rad/s that the driver reports; None when it is silent."""
        lies, reported = self.lying if self.lie is not Lie.SWAPPED else None, self._report()
        if reported is None or lies is None:
            return reported
        truth = self.q, self.velocities
        return np.where(lies, reported[0], truth[0]), np.where(lies, reported[1], truth[1])

    def _report(self) -> tuple[FloatArray, FloatArray] | None:
        """Return the driver's report with the fault applied to every joint."""
        lie, q, velocities = self.lie, self.q, self.velocities
        self._frozen = None if lie is not Lie.FROZEN else (self.q if self._frozen is None else self._frozen)
        if lie is Lie.SILENT:
            return None
        if self._frozen is not None:
            return self._frozen, np.zeros_like(velocities)
        if lie is Lie.ALTERNATING:
            self._turn = not self._turn
            return q + self._turn * self.offset, velocities
        if lie in (Lie.OFFSET, Lie.ONE_FALSE):
            self.lie = Lie.NONE if lie is Lie.ONE_FALSE else lie
            return q + self.offset, velocities
        if lie is Lie.SWAPPED:
            order = np.arange(len(q))
            order[list(self.swapped)] = order[list(reversed(self.swapped))]
            return q[order], velocities[order]
        if lie is Lie.STILL:
            return q, np.zeros_like(velocities)
        return q, np.full_like(velocities, np.nan) if lie is Lie.SPEEDLESS else velocities


def _followed(lag: float, period: float) -> float:
    """Return the fraction of a step that a first-order lag covers within a period; both s."""
    return 1.0 if lag == 0.0 else 1.0 - float(np.exp(-period / lag))


class PlantShadow(Shadow):
    """A dry run with a plant; `q` and `velocities` are the true values.

    Attributes:
        steps: Every commanded step with its time, s.
        marks: Index of each step in `commands`, which also contains the stop's rows in place of missed ticks.
    """

    def __init__(self, contract: RobotContract, parameters: SafetyParameters, plant: Plant) -> None:
        """Place the plant at home, disarmed."""
        super().__init__(contract, parameters)
        self.plant = plant
        plant.place(self.q)
        self.first_posture = FirstPosture()
        self._command, self._ticked = self.q.copy(), self.now
        self.steps: list[tuple[float, JointStep]] = []
        self.marks: list[int] = []

    def state(
        self,
        *,
        positions: FloatArray | None = None,
        velocities: FloatArray | None = None,
        opening: float | None = None,
        stamp: float | None = None,
    ) -> RobotState:
        """Return the driver's reported state, with the given values replaced."""
        report = self.plant.report() or (self.q, self.velocities)
        return super().state(
            positions=report[0] if positions is None else positions,
            velocities=report[1] if velocities is None and positions is None else velocities,
            opening=opening,
            stamp=stamp,
        )

    def sense(self, state: RobotState | None = None) -> None:
        """Deliver a joint state, unless the driver is silent."""
        if state is not None:
            self.first_posture.receive(Lie.ONE_FALSE, None, 0.0, self.now)
        elif self.plant.lie is Lie.SILENT:
            if self.plant.lying is not None:  # the other drivers' reports are no complete robot state
                self.supervisor.refuse_state(self.now, Reason.STATE_SOURCE)
            return
        else:
            lie, fault, state = self.plant.lie, self.plant.fault, self.state()
            self.first_posture.receive(lie, fault, float(np.abs(state.joint_positions - self.q).max()), self.now)
        super().sense(state)

    def tick(self, sense: bool = True) -> SafetyDecision:
        """Run one period; without a new command the arm keeps moving to its last one."""
        decision = super().tick(sense)
        self._ticked = self.now
        if decision.joint_positions is None:
            self._move()
        return decision

    def coast(self) -> None:
        """Move the arm along its stop for the time since the last tick; a lagging arm catches up."""
        before = len(self.commands)
        super().coast()
        for _ in range(round((self.now - self._ticked) / self.period) - (len(self.commands) - before)):
            self._move()

    def follow(self, step: JointStep) -> None:
        """Set the step that the controller follows."""
        super().follow(step)
        self.steps.append((self.now, step))
        self.marks.append(len(self.commands))

    def carry_out(self, positions: FloatArray, openings: tuple[float, ...] | float) -> None:
        """Start executing a command."""
        self._command = np.array(positions)
        self.commands.append(self._command)
        self._grip(openings)
        self._move()

    def put(self, positions: FloatArray) -> None:
        """Move the arm to joint positions (n,) rad by hand; it stays there until the next command."""
        self._command = np.array(positions)
        self.plant.place(positions)
        self.q, self.velocities = self.plant.q, self.plant.velocities

    def _move(self) -> None:
        self.plant.follow(self._command, self.period)
        self.q, self.velocities = self.plant.q, self.plant.velocities
