"""Contact detection from joint positions, and from joint torques where the driver reports them.

By position: a free joint is between its command and the response of the slowest permitted model (a delay, then a
first-order lag) to that command. A joint further away than the contract's threshold is held, provided that the arm has
stalled (`StallCheck`). By effort: the external torque of `MomentumObserver`, minus what a payload explains.

An implausible measurement is no evidence, see `ContactMonitor.update`. Nor, for a while, is a position that the torques
of the same measurement contradict: whatever holds an arm up exerts a torque. An arm that lags its command without any
external torque received its commands late, because the controllers' computer is busy and does not report that. Torques
of a joint whose sensor is numb (`TorqueCheck`) cannot contradict, and none can for longer than `VETO`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pinocchio
from numpy.typing import NDArray

from vla_ros.robot.contract import RobotContract
from vla_ros.safety.contact.momentum_observer import MomentumObserver
from vla_ros.safety.contact.torque_check import TorqueCheck
from vla_ros.safety.measurement.arm_wise import Flags, any_in_arm
from vla_ros.safety.measurement.tracking_model import StallCheck, TrackingModel
from vla_ros.types import FloatArray, RobotState

TRACKING_COUNT = 2
EFFORT_COUNT = 2
"""Number of consecutive measurements beyond a threshold that make a contact: a single one may be an outlier."""

GONE = 0.5
"""Fraction of its threshold below which every residual must fall for a contact to end."""

VETO = 0.2
"""Time for which torques without a contact overrule a stall, s: a driver may compute torques from the motion, and
commands delayed longer than this are a fault, too."""

NEARER = 0.9
"""Fraction of its largest residual below which a joint has approached its command, and so is not held."""

TIME_CONSTANT = 0.01
"""Time constant of the momentum observer, s: one measurement at 100 Hz."""


@dataclass(frozen=True)
class Contact:
    """A contact: the name of the `joint`, the method "tracking" (rad) or "effort" (N m), and the residual."""

    joint: str
    by: str
    residual: float
    threshold: float

    @property
    def detail(self) -> str:
        """Description of the measurement."""
        if self.by == "effort":
            return f"({self.joint}: {self.residual:.1f} N m from outside, threshold {self.threshold:.1f})"
        return f"({self.joint}: {1e3 * self.residual:.0f} mrad from its command, threshold {1e3 * self.threshold:.0f})"


class ContactMonitor:
    """Monitors arms for contacts; call `command` once per tick, `update` for every measurement. Not thread-safe."""

    def __init__(
        self,
        contract: RobotContract,
        model: pinocchio.Model,
        tool: int | Sequence[int],
        period: float,
        ahead: float = 0.0,
    ) -> None:
        """Use the thresholds of `contract`; without its section `contact` nothing is detected.

        Args:
            contract: Contract of the robot.
            model: Model of the arm with locked fingers; read-only.
            tool: Index of the tool frame in `model`; with several arms, one per arm.
            period: Tick period, s.
            ahead: Time from a command to its due time, plus tolerated lateness, s; the robot's delay is added.

        Raises:
            ContractError: when effort thresholds are given but the description has no masses.
        """
        self._names, limits = contract.joints.names, contract.contact
        self._owners = contract.joint_owners
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
        """Detection methods in use: "tracking", "effort"; empty without thresholds in the contract."""
        if self._limits is None:
            return ()
        return ("tracking",) if self._observer is None else ("tracking", "effort")

    def reset(self, positions: FloatArray) -> None:
        """Start with the arm at rest at joint positions (n,) rad, as when it is armed."""
        if self._limits is None:
            return
        self._tracking.reset(np.asarray(positions))
        self._stall.reset()
        self._state: RobotState | None = None
        self._stalled_at = np.full(len(self._names), np.inf)  # stamp of the start of a joint's stall, s
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
        """Record the joint positions (n,) rad commanded in one tick."""
        if self._limits is not None:
            self._tracking.command(positions)

    def update(
        self, state: RobotState, *, believed: bool = True, moving: bool = True, punctual: bool = True
    ) -> Contact | None:
        """Return the contact shown by the newest measurement, or None.

        Args:
            state: Newest measurement; a repeated one is no evidence, nor is one equal to the previous one to the last
                bit, of each arm: a frozen sensor repeats its value, an arm in contact always gives a little.
            believed: Whether no other check rejects the measurement; else it is no evidence, and the observer is reset.
            moving: Whether the arm is commanded to move, or was just before; else it did not cause the contact itself.
            punctual: Whether commands and measurements are on time; else positions are no evidence. Torques are: they
                belong to the positions of the same measurement.
        """
        if self._limits is None:
            return None
        last = self._state
        if last is not None and state.stamp == last.stamp:
            return None
        self._state, self.touching = state, False
        if last is None:
            moved = np.ones(len(self._names), dtype=bool)
        else:
            moved = any_in_arm(state.joint_positions != last.joint_positions, self._owners)
        felt = bool(moved.any()) or last is None or not _same(state.joint_efforts, last.joint_efforts)
        by_effort = self._by_effort(state, believed, moving, felt)
        by_tracking = self._by_tracking(state, believed and moving, punctual, moved)
        return by_effort or by_tracking

    def _nothing_felt(self, state: RobotState) -> NDArray[np.bool_]:
        """Return for which joints (n,) the torques of the newest measurement show no external force."""
        limits, observer, check = self._limits, self._observer, self._torque_check
        if limits is None or limits.effort is None or observer is None or check is None or state.joint_efforts is None:
            return np.zeros(len(self._names), dtype=bool)
        quiet = observer.informed and not self._pushed(GONE * limits.effort).any()
        return ~check.numb(state.stamp) & quiet

    def _by_tracking(self, state: RobotState, valid: bool, punctual: bool, changed: Flags) -> Contact | None:
        limits = self._limits
        if limits is None:
            return None
        residual = np.abs(self._tracking.residual(state.joint_positions))
        if changed.any():
            self._stall.add(state.joint_positions, self._tracking.slowest)
        beyond = (residual > limits.tracking) & punctual
        evidence = beyond & (valid and bool(beyond.any()) and self._stall.stalled)
        lasting = changed & self._lasting(residual, beyond, evidence, state.stamp)
        counted = evidence & ~self._nothing_felt(state)
        self._tracking_count = _count(self._tracking_count, counted, changed | (not beyond.any()))
        return self._contact("tracking", lasting | (self._tracking_count >= TRACKING_COUNT), residual, limits.tracking)

    def _lasting(
        self, residual: FloatArray, beyond: NDArray[np.bool_], stalled: NDArray[np.bool_], stamp: float
    ) -> NDArray[np.bool_]:
        """Return which joints (n,) have been held for longer than their torques can overrule.

        A detected stall lasts until the joint is no longer `beyond` or approaches its command, as it does when commands
        arrive again. It also lasts while the arm is stopped for not following, which ends all other evidence.
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
        if not believed:  # wrong positions would stay in its integral
            observer.reset()
            self._effort_count[:] = 0
            return None
        residuals = np.stack([observer.update(state), observer.newest])
        if self._torque_check is not None:
            self._torque_check.update(observer, state.joint_efforts, state.stamp)
        torques, self._newest_torques = observer.without_payload(state.joint_positions, residuals, limits.payload)
        self.residual_torques = torques
        beyond = self._pushed(limits.effort) & moving
        self._effort_count = _count(self._effort_count, beyond, np.full(len(beyond), changed and observer.informed))
        return self._contact("effort", self._effort_count >= EFFORT_COUNT, np.abs(torques), limits.effort)

    def _pushed(self, threshold: FloatArray) -> NDArray[np.bool_]:
        """Return which joints have an external torque above `threshold` (n,) N m.

        A real external force persists: a jump of the torques between two measurements leaves a residual only once.
        """
        torques = np.zeros(len(self._names)) if self.residual_torques is None else self.residual_torques
        return (np.abs(torques) > threshold) & (np.sign(torques) * self._newest_torques > GONE * threshold)

    def _contact(self, by: str, seen: NDArray[np.bool_], residual: FloatArray, threshold: FloatArray) -> Contact | None:
        self.touching = self.touching or bool((residual > GONE * threshold).any())
        if not seen.any():
            return None
        worst = int(np.argmax(np.where(seen, residual / threshold, 0.0)))
        return Contact(self._names[worst], by, float(residual[worst]), float(threshold[worst]))


def _count(before: NDArray[np.int_], beyond: Flags, changed: Flags) -> NDArray[np.int_]:
    """Return the number of consecutive measurements beyond; an unchanged one neither counts nor resets."""
    return np.where(changed, np.where(beyond, before + 1, 0), before)


def _same(efforts: FloatArray | None, before: FloatArray | None) -> bool:
    return efforts is None or before is None or np.array_equal(efforts, before)
