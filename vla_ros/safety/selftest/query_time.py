"""Benchmark of the distance queries between collision shapes, run before the layer depends on them."""

from __future__ import annotations

import time

import numpy as np

from vla_ros.errors import ContractError
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.parameters import SafetyParameters

MAX_FRACTION = 0.5
"""Maximum fraction of a tick for the distance queries: the rest of the tick, with its path checks, must fit as well."""

WARN_FRACTION = 0.1
"""Fraction of a tick from which a warning is given: the self-test needs hundreds of thousands of distances."""

POSTURES, REPEATS = 8, 3


def query_time(model: CollisionModel, contract: RobotContract) -> float:
    """Return the time for the distances of one posture, s: the median over postures within the limits.

    It is the CPU time of this thread, the fastest repeat per posture: other processes do not count.
    """
    joints, rng = contract.joints, np.random.default_rng(0)
    postures = [joints.home, *rng.uniform(joints.lower, joints.upper, (POSTURES - 1, joints.count))]
    return float(np.median([min(_timed(model, posture) for _ in range(REPEATS)) for posture in postures]))


def _timed(model: CollisionModel, posture: np.ndarray) -> float:
    begin = time.thread_time()
    model.approaches(posture)
    return time.thread_time() - begin


def require_timely_distances(contract: RobotContract, parameters: SafetyParameters) -> str:
    """Return a warning about slow distance queries, or "".

    Raises:
        ContractError: when they do not fit into a tick.
    """
    if not parameters.collision.enabled:
        return ""
    model = CollisionModel(contract, parameters.collision, parameters.obstacles)
    return check_query_time(query_time(model, contract), model.triangles, contract, parameters.timing.period)


def check_query_time(seconds: float, triangles: int, contract: RobotContract, period: float) -> str:
    """Return a warning about distance queries that take `seconds` s of a tick of `period` s, or "".

    Raises:
        ContractError: when they take too much of it.
    """
    fraction = seconds / period
    if fraction < WARN_FRACTION:
        return ""
    sentence = (
        f"the distances between the collision shapes of {contract.urdf.name} take {1e3 * seconds:.1f} ms of a tick of "
        f"{1e3 * period:.1f} ms; its meshes have {triangles} triangles"
    )
    advice = "'vla-ros robot simplify <contract> --out <file>.urdf' makes convex shapes of them"
    if not fraction < MAX_FRACTION:
        raise ContractError(f"{sentence}: expected at most {1e3 * MAX_FRACTION * period:.1f} ms; {advice}")
    return f"{sentence}; {advice}"
