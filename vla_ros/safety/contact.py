"""Contact detection: by where the joints are, and by the torques that they pass on where a driver reports them.

By position: a joint that is free stands somewhere between its command and what the slowest permitted model of it
(a delay, then a first-order lag) makes of its command. What is further away than the contract's threshold is held by
something, if the arm has stalled in front of it (`StallCheck`). By effort: `MomentumObserver`, less what a payload
explains.

A measurement that cannot be believed is no evidence: see `ContactMonitor.update`. Nor, for a while, is a position of a
joint that the torques of the same measurement contradict: what holds an arm up is felt. An arm that is behind its
command and feels nothing has got its commands late, which a busy computer of the controllers does not tell. A joint
whose sensor is numb (`TorqueCheck`) cannot say so, and none can for longer than `VETO`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pinocchio
from numpy.typing import NDArray

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.momentum_observer import MomentumObserver
from vla_ros.safety.torque_check import TorqueCheck
from vla_ros.safety.tracking_model import StallCheck, TrackingModel
from vla_ros.types import FloatArray, RobotState

TRACKING_COUNT = 2
EFFORT_COUNT = 2
"""Measurements in a row beyond a threshold that are a contact: one alone may be a false measurement."""

GONE = 0.5
"""A contact ends when every residual is below this fraction of its threshold."""

VETO = 0.2
"""Torques that show nothing keep a stall from being a contact for this long, s: a driver's may be computed from the
motion, and commands that are later than that are a fault, too."""

NEARER = 0.9
"""A joint that has come nearer to its command than this fraction of its largest residual is not held."""

TIME_CONSTANT = 0.01
"""Of the momentum observer, s: one measurement at 100 Hz."""


@dataclass(frozen=True)
class Contact:
    """A contact: `joint` by name, whether seen by "tracking" (rad) or "effort" (N m), and the residual there."""

    joint: str
    by: str
    residual: float
    threshold: float

    @property
    def detail(self) -> str:
        """Say what was measured."""
        if self.by == "effort":
            return f"({self.joint}: {self.residual:.1f} N m from outside, threshold {self.threshold:.1f})"
        return f"({self.joint}: {1e3 * self.residual:.0f} mrad from its command, threshold {1e3 * self.threshold:.0f})"


class ContactMonitor:
    """Watches one arm for contacts; `command` once a tick, `update` for every measurement. One thread at a time."""

    def __init__(
        self,
        contract: RobotContract,
        model: pinocchio.Model,
        tool: int | Sequence[int],
        period: float,
        ahead: float = 0.0,
    ) -> None:
        """Use the thresholds of `contract`; without its section `contact` nothing is ever detected.

        Args:
            contract: Of the robot.
            model: Of the arm, its fingers locked; only read.
            tool: Number of the tool's frame in `model`; of several arms, of each.
            period: Of the ticks, s.
            ahead: From a command to when it is due, and lateness that is tolerated, s: the robot's delay comes on top.

        Raises:
            ContractError: when effort thresholds are given and the description has no masses.
        """
        self._names, limits = contract.joints.names, contract.contact
        self._limits = limits
        self.residual_torques: FloatArray | None = None
        self.touching = False
        if limits is None:
            return
        self._tracking = TrackingModel(limits.delay + ahead, limits.lag, period)
        tools = (tool,) if isinstance(tool, int) else tuple(tool)
        self._stall = StallCheck(model, tools, period)
        self._observer = None if limits.effort is None else MomentumObserver(model, tools[0], TIME_CONSTANT)
        self._torque_check = None if limits.effort is None else TorqueCheck(limits.effort)
        self.reset(contract.joints.home)

    @property
    def methods(self) -> tuple[str, ...]:
        """What contacts are detected by: "tracking", "effort"; nothing for a contract without thresholds."""
        if self._limits is None:
            return ()
        return ("tracking",) if self._observer is None else ("tracking", "effort")

    def reset(self, positions: FloatArray) -> None:
        """Start with an arm at rest at joint positions (n,) rad, as when it is armed."""
        if self._limits is None:
            return
        self._tracking.reset(np.asarray(positions))
        self._stall.reset()
        self._state: RobotState | None = None
        self._stalled_at = np.full(len(self._names), np.inf)  # stamp since which a joint is beyond, having stalled, s
        self._furthest = np.zeros(len(self._names))  # largest residual of the stall, rad
        self._tracking_count = np.zeros(len(self._names), dtype=int)
        self._effort_count = np.zeros(len(self._names), dtype=int)
        self.residual_torques, self.touching = None, False
        self._newest_torques: FloatArray = np.zeros(len(self._names))
        if self._observer is not None:
            self._observer.reset()
        if self._torque_check is not None:
            self._torque_check.reset()

    def command(self, positions: FloatArray) -> None:
        """Note the joint positions (n,) rad that one tick commanded."""
        if self._limits is not None:
            self._tracking.command(positions)

    def update(
        self, state: RobotState, *, believed: bool = True, moving: bool = True, punctual: bool = True
    ) -> Contact | None:
        """Return the contact that the newest measurement shows, or None.

        Args:
            state: Newest measurement; the same one again is no evidence, nor is one that equals the one before to the
                last bit: a sensor that has frozen says the same for ever, an arm in contact gives way a little.
            believed: No other check rejects the measurement; else it is no evidence, and the observer is reset.
            moving: The arm is commanded to move, or was a moment ago; else what meets it is no contact of its own.
            punctual: Commands and measurements keep time; else positions are no evidence. Torques are: they belong
                to the positions of the same measurement.
        """
        if self._limits is None:
            return None
        last = self._state
        if last is not None and state.stamp == last.stamp:
            return None
        self._state, self.touching = state, False
        moved = last is None or not np.array_equal(state.joint_positions, last.joint_positions)
        felt = moved or last is None or not _same(state.joint_efforts, last.joint_efforts)
        by_effort = self._by_effort(state, believed, moving, felt)
        by_tracking = self._by_tracking(state, believed and moving, punctual, moved)
        return by_effort or by_tracking

    def _nothing_felt(self, state: RobotState) -> NDArray[np.bool_]:
        """Return for which joints (n,) the torques of the newest measurement show that nothing holds the arm."""
        limits, observer, check = self._limits, self._observer, self._torque_check
        if limits is None or limits.effort is None or observer is None or check is None or state.joint_efforts is None:
            return np.zeros(len(self._names), dtype=bool)
        quiet = observer.informed and not self._pushed(GONE * limits.effort).any()
        return ~check.numb(state.stamp) & quiet

    def _by_tracking(self, state: RobotState, valid: bool, punctual: bool, changed: bool) -> Contact | None:
        limits = self._limits
        if limits is None:
            return None
        residual = np.abs(self._tracking.residual(state.joint_positions))
        if changed:
            self._stall.add(state.joint_positions, self._tracking.slowest)
        beyond = (residual > limits.tracking) & punctual
        evidence = beyond & (valid and bool(beyond.any()) and self._stall.stalled)
        lasting = changed & self._lasting(residual, beyond, evidence, state.stamp)
        counted = evidence & ~self._nothing_felt(state)
        self._tracking_count = _count(self._tracking_count, counted, changed or not beyond.any())
        return self._contact("tracking", lasting | (self._tracking_count >= TRACKING_COUNT), residual, limits.tracking)

    def _lasting(
        self, residual: FloatArray, beyond: NDArray[np.bool_], stalled: NDArray[np.bool_], stamp: float
    ) -> NDArray[np.bool_]:
        """Return which joints (n,) have been held up for longer than their torques are believed to deny it.

        A stall once seen lasts until the joint is no longer `beyond` or comes nearer to its command, as one does that
        is served again. It lasts on while the arm is stopped for not following, which ends every other evidence.
        """
        lasts = beyond & (residual >= NEARER * self._furthest)
        begun = np.where(stalled, np.minimum(self._stalled_at, stamp), self._stalled_at)
        self._stalled_at = np.where(lasts, begun, np.where(stalled, stamp, np.inf))
        self._furthest = np.where(np.isfinite(self._stalled_at), np.maximum(residual, self._furthest * lasts), 0.0)
        return np.asarray(stamp - self._stalled_at >= VETO, dtype=bool)

    def _by_effort(self, state: RobotState, believed: bool, moving: bool, changed: bool) -> Contact | None:
        limits, observer = self._limits, self._observer
        if limits is None or limits.effort is None or observer is None or state.joint_efforts is None:
            return None
        if not believed:  # false positions would stay in its integral
            observer.reset()
            self._effort_count[:] = 0
            return None
        residuals = np.stack([observer.update(state), observer.newest])
        if self._torque_check is not None:
            self._torque_check.update(observer, state.joint_efforts, state.stamp)
        torques, self._newest_torques = observer.without_payload(state.joint_positions, residuals, limits.payload)
        self.residual_torques = torques
        beyond = self._pushed(limits.effort) & moving
        self._effort_count = _count(self._effort_count, beyond, changed and observer.informed)
        return self._contact("effort", self._effort_count >= EFFORT_COUNT, np.abs(torques), limits.effort)

    def _pushed(self, threshold: FloatArray) -> NDArray[np.bool_]:
        """Return which joints something pushes with more than `threshold` (n,) N m.

        What pushes, pushes on: torques that jumped between two measurements leave a residual, but once.
        """
        torques = np.zeros(len(self._names)) if self.residual_torques is None else self.residual_torques
        return (np.abs(torques) > threshold) & (np.sign(torques) * self._newest_torques > GONE * threshold)

    def _contact(self, by: str, seen: NDArray[np.bool_], residual: FloatArray, threshold: FloatArray) -> Contact | None:
        self.touching = self.touching or bool((residual > GONE * threshold).any())
        if not seen.any():
            return None
        worst = int(np.argmax(np.where(seen, residual / threshold, 0.0)))
        return Contact(self._names[worst], by, float(residual[worst]), float(threshold[worst]))


def _count(before: NDArray[np.int_], beyond: NDArray[np.bool_], changed: bool) -> NDArray[np.int_]:
    """Return the measurements in a row that were beyond; one that did not change neither counts nor interrupts."""
    return np.where(beyond, before + 1, 0) if changed else before


def _same(efforts: FloatArray | None, before: FloatArray | None) -> bool:
    return efforts is None or before is None or np.array_equal(efforts, before)
