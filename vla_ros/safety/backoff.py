"""The way back from a contact: along the postures that were commanded before it, which were free.

    backoff.note(step.positions)                                         # every tick, while the plan is followed
    backoff.begin(step.positions, measured)                              # at a contact
    velocities = backoff.velocities(step.positions, measured, touching)  # every tick from then on; None: brake

It only says where to go. The step is still made by `JointMotion.propose` and judged by the envelope.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.robot.contract import JointContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

SPACING = 2e-3
"""Two postures that are kept differ by at least this in one joint, rad."""

KEPT = 256
"""Postures that are kept: over 0.5 rad of motion of the quickest joint."""

TOOL_SPEED = 0.25
"""Largest speed of the tool on its way back, m/s, below its own limit: the usual reduced speed beside people."""

BRAKE_SHARE = 0.4
"""Share of the joints' acceleration that the approach to the end of the way counts on."""

GAIN = 12.0
"""Speed for the way that is left near its end, 1/s."""

LOOKAHEAD = 6e-3
"""The way is followed by steering for the place so far ahead on it, rad of the quickest joint."""

LONGEST = 0.1
"""The tool goes back no further than this, m, also when the contact does not end."""

YIELDS = 5
"""Where no way back takes the load off, the command goes to the measured posture, at most this many times."""

ARRIVED = 5e-4
"""The way is at its end when so little of it is left, rad of the quickest joint."""

_ROUNDING = 1e-9


class BackOff:
    """Keeps the commanded postures of the last moments and leads back along them. One thread at a time."""

    def __init__(self, joints: JointContract, kinematics: Kinematics, retreat: float) -> None:
        """Back off so that the tool is `retreat` m, measured along the way, behind the place of the contact."""
        self._joints, self._kinematics, self._retreat = joints, kinematics, retreat
        self._kept: deque[FloatArray] = deque(maxlen=KEPT)
        self._way: FloatArray = np.zeros((0, joints.count))
        self._goal, self._longest, self._yields = 0, 0.0, 0
        self._held = 0  # number of the arm whose way counts

    @property
    def active(self) -> bool:
        """Whether there is way left."""
        return len(self._way) > 0

    def clear(self) -> None:
        """Forget everything: the arm was moved by something else, as before an arming."""
        self._kept.clear()
        self.end()

    def end(self) -> None:
        """Give up the way back; the postures are kept."""
        self._way = self._way[:0]

    def note(self, positions: FloatArray) -> None:
        """Keep a commanded posture (n,) rad; nothing is kept while the arm stands."""
        if not self._kept or float(np.abs(positions - self._kept[-1]).max()) >= SPACING:
            self._kept.append(np.array(positions))

    def begin(self, commanded: FloatArray, measured: FloatArray) -> None:
        """Plan the way from the posture `commanded` to one behind `measured`, (n,) rad each.

        An arm that stood, or that was pushed against the direction of its motion, has none: the way back would press
        on what pushes it. It yields to the measured posture instead.
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
        """Return the number of the arm that has joint number `joint`: the one that is furthest from its command."""
        contract = self._kinematics.contract
        return next(
            number
            for number, arm in enumerate(contract.arms)
            if joint < contract.joint_columns(arm.name).stop
        )  # fmt: skip

    def _behind(self, kept: FloatArray, place: int) -> int:
        """Return which posture is at least the retreat behind number `place` of the postures `kept`, or the first."""
        tools = np.array([
            [tool.translation for tool in self._kinematics.placements(row)] for row in kept[: place + 1]
        ])  # fmt: skip
        behind = np.cumsum(np.linalg.norm(np.diff(tools[::-1, self._held], axis=0), axis=1))
        far = np.flatnonzero(behind >= self._retreat)
        steps = int(far[0]) + 1 if len(far) else len(behind)
        self._longest -= float(behind[steps - 1]) if steps else 0.0
        return place - steps

    def _continue(self, commanded: FloatArray, measured: FloatArray) -> None:
        """Lead on from the end of the way, for the contact goes on; there may be nothing left to do."""
        kept, place = np.array(self._kept), self._goal
        self.end()
        if place > 0 and self._longest > 0.0:
            goal = self._behind(kept, place)
            if _relieves(kept[goal], commanded, measured):
                self._way, self._goal = kept[goal:place][::-1], goal
                return
        self._yield(measured)

    def _yield(self, measured: FloatArray) -> None:
        """Lead to where the arm is: its servos then press on nothing."""
        self._goal = 0  # it has left the commanded path
        self._way = np.array([measured])[: self._yields]
        self._yields -= len(self._way)

    def yield_to(self, measured: FloatArray) -> None:
        """Drive no way back: the command goes to the posture `measured` (n,) rad, as after a push."""
        self._yields = YIELDS
        self._yield(measured)

    def velocities(self, positions: FloatArray, measured: FloatArray, touching: bool) -> FloatArray | None:
        """Return the joint velocities (n,) rad/s that lead on along the way, or None: at its end the stop follows.

        Args:
            positions: Commanded joint positions (n,) rad.
            measured: Measured ones.
            touching: The contact goes on. An arm that was bent by it is measured further ahead than the contact
                began, so that the way behind the measurement may not be enough: another one then follows.
        """
        if self.active and self._left(positions) <= ARRIVED:
            if touching:
                self._continue(positions, measured)
            else:
                self.end()
        if not self.active:
            return None
        # Passed are the postures before the one nearest to where the arm is commanded to be.
        self._way = self._way[int(np.argmin(np.abs(self._way - positions).max(axis=1))) :]
        ahead = next((row for row in self._way if float(np.abs(row - positions).max()) >= LOOKAHEAD), self._way[-1])
        direction = ahead - positions
        size = float(np.abs(direction).max())
        if size <= _ROUNDING:
            return np.zeros_like(positions)
        return np.asarray(direction / size * self._speed(positions, direction / size, self._left(positions)))

    def _left(self, positions: FloatArray) -> float:
        """Return the length of the way that is left, rad of the quickest joint."""
        return float(np.abs(np.diff(np.vstack([positions, self._way]), axis=0)).max(axis=1).sum())

    def _speed(self, positions: FloatArray, direction: FloatArray, left: float) -> float:
        """Return the speed of the quickest joint, rad/s, `left` rad from the end of the way."""
        moving = np.abs(direction) > 1e-3
        fastest = float((self._joints.velocity[moving] / np.abs(direction[moving])).min())
        brake = BRAKE_SHARE * float((self._joints.acceleration[moving] / np.abs(direction[moving])).min())
        return min(fastest, self._tool_allows(positions, direction), GAIN * left, float(np.sqrt(2.0 * brake * left)))

    def _tool_allows(self, positions: FloatArray, direction: FloatArray) -> float:
        """Return the speed of the quickest joint, rad/s, at which no tool is faster than it may be on its way back."""
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
    """Say whether going from `commanded` to `goal` brings the command nearer to where the arm is held."""
    return float((goal - commanded) @ (measured - commanded)) > 0.0
