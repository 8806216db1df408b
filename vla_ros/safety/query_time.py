"""What the distances between the arm's shapes cost, measured before anything depends on it."""

from __future__ import annotations

import time

import numpy as np

from vla_ros.errors import ContractError
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.collision import CollisionModel
from vla_ros.safety.parameters import SafetyParameters

MOST_FRACTION = 0.5
"""Distances must take less than this fraction of a tick: the rest of the tick, and its checks along the way, follow."""

NOTED_FRACTION = 0.1
"""From this fraction of a tick on it is told: the self-test asks for some hundred thousand distances."""

POSTURES, REPEATS = 8, 3


def query_time(model: CollisionModel, contract: RobotContract) -> float:
    """Return how long the distances of one posture take, s: the median of some postures within the limits.

    Counted is the time that this thread computes, and of each posture the fastest repeat: other processes do not count.
    """
    joints, rng = contract.joints, np.random.default_rng(0)
    postures = [joints.home, *rng.uniform(joints.lower, joints.upper, (POSTURES - 1, joints.count))]
    return float(np.median([min(_timed(model, posture) for _ in range(REPEATS)) for posture in postures]))


def _timed(model: CollisionModel, posture: np.ndarray) -> float:
    begin = time.thread_time()
    model.approaches(posture)
    return time.thread_time() - begin


def require_timely_distances(contract: RobotContract, parameters: SafetyParameters) -> str:
    """Return a sentence about distances that are slow, "" where they are not.

    Raises:
        ContractError: when a tick cannot hold them.
    """
    if not parameters.collision.enabled:
        return ""
    model = CollisionModel(contract, parameters.collision, parameters.obstacles)
    return judge_query_time(query_time(model, contract), model.triangles, contract, parameters.timing.period)


def judge_query_time(seconds: float, triangles: int, contract: RobotContract, period: float) -> str:
    """Return what is to be told of distances that take `seconds` s of a tick of `period` s; "" where nothing is.

    Raises:
        ContractError: when they take too much of it.
    """
    fraction = seconds / period
    if fraction < NOTED_FRACTION:
        return ""
    sentence = (
        f"the distances between the collision shapes of {contract.urdf.name} take {1e3 * seconds:.1f} ms of a tick of "
        f"{1e3 * period:.1f} ms; its meshes have {triangles} triangles"
    )
    advice = "'vla-ros robot simplify <contract> --out <file>.urdf' makes convex shapes of them"
    if not fraction < MOST_FRACTION:
        raise ContractError(f"{sentence}: expected at most {1e3 * MOST_FRACTION * period:.1f} ms; {advice}")
    return f"{sentence}; {advice}"
