"""Chunks as motions on the sensor's clock: sampling one at the rows of another, and blending two.

It imports pinocchio; it is therefore imported only when the first chunk is joined to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.actions.resampling import EPSILON, rows_at
from vla_ros.actions.rotation_vectors import slerp
from vla_ros.actions.space import ActionSpace
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, decode_chunk, encode_chunk
from vla_ros.types import FloatArray

Trajectories = Mapping[str, ArmTrajectory]
"""Rows by arm."""

LOOK_BACK, LOOKS = 0.3, 7
"""Maximum lag of an arm behind its plan, s, and the number of instants within it that are compared."""

NEAR_METERS, NEAR_RADIANS, NEAR_JOINTS = 0.03, 0.25, 0.12
"""Maximum distance from the plan at which the next chunk continues it: of the tool, m and rad, and of joints, rad."""


@dataclass(frozen=True)
class Plan:
    """A decoded chunk, and the arms at its observation.

    Attributes:
        stamp: Stamp of the observation, s, sensor's clock.
        period: Time between rows, s.
        rows: Number of rows.
        starts: Each arm at the observation.
        trajectories: Target motion of each arm.
    """

    stamp: float
    period: float
    rows: int
    starts: Mapping[str, ArmStart]
    trajectories: Trajectories

    @classmethod
    def of_rows(
        cls, actions: FloatArray, stamp: float, period: float, space: ActionSpace, starts: Mapping[str, ArmStart]
    ) -> Plan:
        """Decode the rows of a chunk predicted from the observation of `stamp`.

        Raises:
            ChunkError: when they do not match `space`.
        """
        return cls(stamp, period, len(actions), starts, decode_chunk(actions, space, starts))

    @property
    def end(self) -> float:
        """Time of the last row, s."""
        return self.stamp + self.rows * self.period

    def rows_left(self, stamp: float) -> int:
        """Return the number of rows of a chunk from an observation of `stamp` that end within this plan."""
        return max(int(np.floor((self.end - stamp) / self.period + EPSILON)), 0)

    def seen_from(self, stamp: float, count: int) -> Trajectories:
        """Return the plan at the first `count` rows of a chunk from an observation of `stamp`; end values are held."""
        first = (stamp - self.stamp) / self.period
        return {arm: rows_at(one, self.starts[arm], first, 1.0, count) for arm, one in self.trajectories.items()}

    def has_at(self, time: float, starts: Mapping[str, ArmStart]) -> bool:
        """Return whether the plan at `time`, s, is close to the arms in `starts`; NaN never is."""
        asked = self.seen_from(time - self.period, 1)
        return all(_near(one, starts[arm]) for arm, one in asked.items())


def encoded(trajectories: Trajectories, space: ActionSpace, starts: Mapping[str, ArmStart]) -> FloatArray:
    """Encode trajectories as rows (h, width) of a chunk whose observation has the arms at `starts`."""
    return encode_chunk(trajectories, space, starts)


def _near(asked: ArmTrajectory, start: ArmStart) -> bool:
    """Return whether an arm is near the single row of `asked`."""
    if asked.joint_positions is not None:
        return bool((np.abs(asked.joint_positions[0] - start.joint_positions) <= NEAR_JOINTS).all())
    if asked.positions is None or asked.quaternions is None:
        return False
    away = float(np.linalg.norm(asked.positions[0] - start.pose.position))
    same = min(abs(float(asked.quaternions[0] @ start.pose.quaternion)), 1.0)
    return away <= NEAR_METERS and 2.0 * float(np.arccos(same)) <= NEAR_RADIANS


def blended(old: Trajectories, new: Trajectories, weights: FloatArray) -> Trajectories:
    """Blend the first rows of `new` with `old` by `weights` (h,), 1 for the old row, 0 for the new one.

    A gripper takes one of the two values, never an intermediate one: it may have only two states.

    Args:
        old: At least h rows per arm.
        new: At least h rows per arm; those after the h-th are unchanged.
        weights: (h,).
    """
    count = len(weights)
    found = {}
    for arm, one in new.items():
        other = old[arm]
        joints, positions, quaternions, openings = _copies(one)
        if joints is not None and other.joint_positions is not None:
            joints[:count] += weights[:, None] * (other.joint_positions[:count] - joints[:count])
        if positions is not None and other.positions is not None:
            positions[:count] += weights[:, None] * (other.positions[:count] - positions[:count])
        if quaternions is not None and other.quaternions is not None:
            for row, weight in enumerate(weights):
                quaternions[row] = slerp(quaternions[row], other.quaternions[row], float(weight))
        if openings is not None and other.openings is not None:
            openings[:count] = np.where(weights > 0.5, other.openings[:count], openings[:count])
        found[arm] = ArmTrajectory(joints, positions, quaternions, openings)
    return found


def _copies(one: ArmTrajectory) -> list[FloatArray | None]:
    values = (one.joint_positions, one.positions, one.quaternions, one.openings)
    return [None if value is None else np.array(value) for value in values]


def averaged(plans: Sequence[Plan], stamp: float, count: int, decay: float) -> Trajectories:
    """Return the weighted mean, row by row, over all plans that contain the row: temporal ensembling.

    Args:
        plans: Oldest first; the last one contains all rows.
        stamp: Stamp of the observation from which rows count.
        count: Number of rows.
        decay: The k-th of the plans that contain a row has the weight exp(-decay k).
    """
    has = np.array([np.arange(count) < plan.rows_left(stamp) for plan in plans])
    has[-1] = True
    weights = np.where(has, np.exp(-decay * (np.cumsum(has, axis=0) - 1)), 0.0)
    weights /= weights.sum(axis=0)
    seen = [plan.seen_from(stamp, count) for plan in plans]
    return {arm: _mean([one[arm] for one in seen], weights) for arm in seen[-1]}


def _mean(rows: Sequence[ArmTrajectory], weights: FloatArray) -> ArmTrajectory:
    """Return the mean of each plan's rows (h, ...) with weights (plans, h)."""

    def mean(values: list[FloatArray | None]) -> FloatArray | None:
        present = [value for value in values if value is not None]
        return None if len(present) < len(rows) else np.einsum("ph,phc->hc", weights, np.stack(present))

    newest = rows[-1]
    quaternions = None
    if newest.quaternions is not None:
        # For nearby rotations: normalized mean of quaternions in one hemisphere.
        sides = [
            one.quaternions * np.sign(np.sum(one.quaternions * newest.quaternions, axis=1, keepdims=True) + 1e-12)
            for one in rows
            if one.quaternions is not None
        ]
        total = np.einsum("ph,phc->hc", weights, np.stack(sides))
        norms = np.linalg.norm(total, axis=1, keepdims=True)
        quaternions = np.where(norms > 0.1, total / np.maximum(norms, 1e-12), newest.quaternions)
    openings = None
    if newest.openings is not None:  # the value nearest to the mean; the mean itself could be an intermediate state
        several = np.stack([one.openings for one in rows if one.openings is not None])
        away = np.abs(several - (weights * several).sum(axis=0)) + np.where(weights > 0.0, 0.0, np.inf)
        openings = several[np.argmin(away, axis=0), np.arange(weights.shape[1])]
    return ArmTrajectory(
        mean([one.joint_positions for one in rows]), mean([one.positions for one in rows]), quaternions, openings
    )


def soft_mask(frozen: int, left: int, horizon: int) -> FloatArray:
    """Return the weights (left,), at most (horizon,), of the current plan's rows: 1 for frozen ones, then fading to 0.

    With d = frozen, H - s = left: c_i = (left - i) / (left - d + 1) and W_i = c_i (e^c_i - 1) / (e - 1), equation 5 of
    arXiv 2506.07339.

    Args:
        frozen: Number of rows executed by the time the new chunk arrives.
        left: Number of rows left in the current plan.
        horizon: Number of rows of the new chunk.
    """
    count = min(left, horizon)
    rows = np.arange(count)
    fading = np.clip((left - rows) / (left - frozen + 1.0), 0.0, 1.0)
    soft = fading * np.expm1(fading) / np.expm1(1.0)
    return np.asarray(np.where(rows < frozen, 1.0, soft))


def fade(frozen: int, overlap: int, count: int) -> FloatArray:
    """Return the weights (count,) of the old rows: 1 for frozen ones, then fading to 0 over `overlap` rows."""
    s = np.clip((np.arange(count) + 1.0 - frozen) / (overlap + 1.0), 0.0, 1.0)
    return np.asarray(1.0 - s * s * (3.0 - 2.0 * s))
