"""Back-off after a contact: retraces the postures commanded before it, which were free of contact.

    backoff.note(step.positions)                                         # every tick, while the plan is followed
    backoff.begin(step.positions, measured)                              # at a contact
    velocities = backoff.velocities(step.positions, measured, touching)  # every tick from then on; None: brake

It only proposes velocities. The step is still made by `JointMotion.propose` and checked by the envelope.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.robot.contract import JointContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

SPACING = 2e-3
"""Minimum difference between two stored postures, rad in any joint."""

KEPT = 256
"""Number of stored postures: over 0.5 rad of motion of the fastest joint."""

TOOL_SPEED = 0.25
"""Maximum tool speed while backing off, m/s, besides its own limit: the usual reduced speed near people."""

BRAKE_SHARE = 0.4
"""Fraction of the joint acceleration limits that the approach to the end of the path relies on."""

GAIN = 12.0
"""Proportional gain of the approach to the end of the path, 1/s."""

LOOKAHEAD = 6e-3
"""Lookahead distance along the path, rad of the fastest joint."""

LONGEST = 0.1
"""Maximum back-off distance of the tool, m, even if the contact does not end."""

YIELDS = 5
"""Maximum number of moves to the measured posture, where no path back relieves the load."""

ARRIVED = 5e-4
"""Remaining path length that counts as arrived, rad of the fastest joint."""

_ROUNDING = 1e-9


class BackOff:
    """Stores the last commanded postures and leads back along them. Not thread-safe."""

    def __init__(self, joints: JointContract, kinematics: Kinematics, retreat: float) -> None:
        """Back off until the tool is `retreat` m, measured along the path, behind the point of contact."""
        self._joints, self._kinematics, self._retreat = joints, kinematics, retreat
        self._kept: deque[FloatArray] = deque(maxlen=KEPT)
        self._way: FloatArray = np.zeros((0, joints.count))
        self._goal, self._longest, self._yields = 0, 0.0, 0
        self._held = 0  # index of the arm in contact, whose tool path counts

    @property
    def active(self) -> bool:
        """Whether path is left."""
        return len(self._way) > 0

    def clear(self) -> None:
        """Drop all postures, since the arm was moved by something else, as before arming."""
        self._kept.clear()
        self.end()

    def end(self) -> None:
        """Abandon the path back; the stored postures are kept."""
        self._way = self._way[:0]

    def note(self, positions: FloatArray) -> None:
        """Store a commanded posture (n,) rad; nothing is stored while the arm stands still."""
        if not self._kept or float(np.abs(positions - self._kept[-1]).max()) >= SPACING:
            self._kept.append(np.array(positions))

    def begin(self, commanded: FloatArray, measured: FloatArray) -> None:
        """Plan the path from the posture `commanded` to one behind `measured`, (n,) rad each.

        There is no path back for an arm that stood still, or that was pushed against its direction of motion: it would
        press against what pushes. The arm yields to the measured posture instead.
        """
        self._longest, self._yields = LONGEST, YIELDS
        self._held = self._arm_of(int(np.argmax(np.abs(measured - commanded))))
        kept = np.array([*self._kept, commanded])
        place = int(np.argmin(np.abs(kept - measured).max(axis=1)))
        self._goal = self._behind(kept, place)
        self._way = kept[self._goal : -1][::-1]
        if not len(self._way) or not _relieves(self._way[-1], commanded, measured):
            self._yield(measured)

    def _arm_of(self, joint: int) -> int:
        """Return the index of the arm with the joint of index `joint`: the joint furthest from its command."""
        contract = self._kinematics.contract
        return next(number for number, arm in enumerate(contract.arms) if joint < contract.joint_columns(arm.name).stop)

    def _behind(self, kept: FloatArray, place: int) -> int:
        """Return the index of the posture at least the retreat behind index `place` of `kept`, or the first one."""
        tools = np.array([[tool.translation for tool in self._kinematics.placements(row)] for row in kept[: place + 1]])
        behind = np.cumsum(np.linalg.norm(np.diff(tools[::-1, self._held], axis=0), axis=1))
        far = np.flatnonzero(behind >= self._retreat)
        steps = int(far[0]) + 1 if len(far) else len(behind)
        self._longest -= float(behind[steps - 1]) if steps else 0.0
        return place - steps

    def _continue(self, commanded: FloatArray, measured: FloatArray) -> None:
        """Extend the path beyond its end while the contact persists; there may be nothing left."""
        kept, place = np.array(self._kept), self._goal
        self.end()
        if place > 0 and self._longest > 0.0:
            goal = self._behind(kept, place)
            if _relieves(kept[goal], commanded, measured):
                self._way, self._goal = kept[goal:place][::-1], goal
                return
        self._yield(measured)

    def _yield(self, measured: FloatArray) -> None:
        """Lead to the measured posture: the servos then press against nothing."""
        self._goal = 0  # the arm has left the commanded path
        self._way = np.array([measured])[: self._yields]
        self._yields -= len(self._way)

    def yield_to(self, measured: FloatArray) -> None:
        """Command the measured posture `measured` (n,) rad instead of a path back, as after a push."""
        self._yields = YIELDS
        self._yield(measured)

    def velocities(self, positions: FloatArray, measured: FloatArray, touching: bool) -> FloatArray | None:
        """Return the joint velocities (n,) rad/s along the path, or None at its end, where the arm brakes.

        Args:
            positions: Commanded joint positions (n,) rad.
            measured: Measured joint positions (n,) rad.
            touching: Whether the contact persists. An arm bent by the contact is measured ahead of the point where
                contact began, so the path back from there may be too short; the path is then extended.
        """
        if self.active and self._left(positions) <= ARRIVED:
            if touching:
                self._continue(positions, measured)
            else:
                self.end()
        if not self.active:
            return None
        # Drop the postures before the one nearest to the commanded position: they are passed.
        self._way = self._way[int(np.argmin(np.abs(self._way - positions).max(axis=1))) :]
        ahead = next((row for row in self._way if float(np.abs(row - positions).max()) >= LOOKAHEAD), self._way[-1])
        direction = ahead - positions
        size = float(np.abs(direction).max())
        if size <= _ROUNDING:
            return np.zeros_like(positions)
        return np.asarray(direction / size * self._speed(positions, direction / size, self._left(positions)))

    def _left(self, positions: FloatArray) -> float:
        """Return the remaining path length, rad of the fastest joint."""
        return float(np.abs(np.diff(np.vstack([positions, self._way]), axis=0)).max(axis=1).sum())

    def _speed(self, positions: FloatArray, direction: FloatArray, left: float) -> float:
        """Return the speed of the fastest joint, rad/s, `left` rad before the end of the path."""
        moving = np.abs(direction) > 1e-3
        fastest = float((self._joints.velocity[moving] / np.abs(direction[moving])).min())
        brake = BRAKE_SHARE * float((self._joints.acceleration[moving] / np.abs(direction[moving])).min())
        return min(fastest, self._tool_allows(positions, direction), GAIN * left, float(np.sqrt(2.0 * brake * left)))

    def _tool_allows(self, positions: FloatArray, direction: FloatArray) -> float:
        """Return the speed of the fastest joint, rad/s, at which no tool exceeds its back-off speed limit."""
        allowed = np.inf
        twists = (self._kinematics.jacobians(positions) @ direction).reshape(-1, 6)
        for twist, arm in zip(twists, self._kinematics.contract.arms, strict=True):
            moved, turned = float(np.linalg.norm(twist[:3])), float(np.linalg.norm(twist[3:]))
            box = arm.cartesian
            for size, limit in ((moved, min(TOOL_SPEED, box.linear_velocity)), (turned, box.angular_velocity)):
                if size > _ROUNDING:
                    allowed = min(allowed, limit / size)
        return allowed


def _relieves(goal: FloatArray, commanded: FloatArray, measured: FloatArray) -> bool:
    """Return whether going from `commanded` to `goal` brings the command nearer to the measured posture."""
    return float((goal - commanded) @ (measured - commanded)) > 0.0
