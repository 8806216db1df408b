"""Measures the duration of a safety tick: free motion, a face of the workspace, the table and a singularity.

Tool plans come first, then the same paths as joint plans (`joint_situations`).

    .venv/bin/python benchmarks/safety_tick.py --ticks 2000

A policy sends chunks at 10 Hz, an ideal arm follows; only `SafetySupervisor.tick` is timed and, separately, the receipt
of a chunk. "cpu" is the thread's CPU time; "wall" includes waiting for a processor, so the two differ by other load on
the machine. One JSON object on the last line, ms.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the graph: a thread pool only slows small matrices down

import numpy as np

from vla_ros.actions.groups import ActionGroup, Quantity
from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.actions.space import ActionSpace
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, encode_chunk
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.robot.inverse_kinematics import nearest_posture
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.types import ActionChunk, FloatArray, RobotState

SITUATIONS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "free motion": ((0.45, 0.2, 0.3), (0.55, -0.2, 0.2)),
    "along a face": ((0.45, 0.6, 0.3), (0.60, 0.6, 0.15)),
    "over the table": ((0.45, 0.1, -0.1), (0.60, -0.1, -0.1)),
    "at the reach's end": ((0.95, 0.40, 0.55), (0.95, -0.40, 0.55)),
}
"""Places between which the policy moves, m; some are out of reach."""

TICKS_PER_CHUNK, TICKS_PER_PLACE, SPEED = 10, 300, 0.25


class Bench:
    """A supervisor, an ideal arm and a policy that moves in straight lines."""

    def __init__(self, contract: RobotContract) -> None:
        """Arm the robot at home."""
        self.contract = contract
        self.kinematics = Kinematics(self.contract)
        self.supervisor = SafetySupervisor(self.contract, load_parameters())
        self.q = np.array(self.contract.joints.home)
        self.velocities = np.zeros_like(self.q)
        self.now, self.sequence = 1.0, 0
        self.chunk_ms: list[float] = []
        for _ in range(self.supervisor.settling_ticks):
            self._sense()
        if (answer := self.supervisor.arm(self.now)) is not Reason.OK:
            raise SystemExit(f"the robot does not arm: {answer.explain()}")

    def _sense(self) -> None:
        self.now += self.supervisor.period
        pose = self.kinematics.forward(self.q)
        opening = self.contract.gripper.max_opening
        self.supervisor.receive_state(RobotState(self.q, self.velocities, opening, pose, self.now), self.now)

    def ask(self, place: FloatArray) -> None:
        """Send a chunk towards `place` (3,) m at `SPEED`."""
        action, pose = self.contract.action, self.kinematics.forward(self.q)
        start = ArmStart(self.q, pose, self.contract.gripper.max_opening)
        way = place - pose.position
        shares = np.minimum(SPEED * action.period * np.arange(1, action.horizon + 1) / np.linalg.norm(way), 1.0)
        home = self.kinematics.forward(self.contract.joints.home)
        places, rows, arm = pose.position + np.outer(shares, way), len(shares), action.only_motion.arm
        trajectory = ArmTrajectory(
            self._postures(places, matrix_from_quaternion(home.quaternion)) if action.only_motion.joints else None,
            places,
            np.tile(home.quaternion, (rows, 1)),
            np.zeros(rows),
        )
        actions = encode_chunk({arm: trajectory}, action, {arm: start})
        self.sequence += 1
        chunk = ActionChunk(actions, action.period, self.now, action.fingerprint, sequence=self.sequence)
        began = time.perf_counter()
        self.supervisor.receive_chunk(chunk, start, self.now)
        self.chunk_ms.append(1e3 * (time.perf_counter() - began))

    def _postures(self, places: FloatArray, rotation: FloatArray) -> FloatArray:
        """Return joint positions (k, n) rad that bring the tool to `places` (k, 3) m, or as near as possible."""
        q, rows = self.q, []
        for place in places:
            q = nearest_posture(self.kinematics, place, rotation, q)
            rows.append(q)
        return np.array(rows)

    def tick(self, clock: Callable[[], float]) -> tuple[float, float, str]:
        """Return the wall time and the `clock` time of one tick, ms, and its reason."""
        self._sense()
        wall, cpu = time.perf_counter(), clock()
        decision = self.supervisor.tick(self.now)
        times = 1e3 * (time.perf_counter() - wall), 1e3 * (clock() - cpu)
        if decision.joint_positions is not None:
            self.velocities = (decision.joint_positions - self.q) / self.supervisor.period
            self.q = np.array(decision.joint_positions)
        return (*times, decision.reason)


def of_joints(contract: RobotContract) -> RobotContract:
    """Return the contract with joint plans in place of tool plans, at the same rate."""
    action, motion = contract.action, contract.action.only_motion
    group = ActionGroup(motion.arm, Quantity.JOINT_POSITION, joints=contract.joints.count)
    others = tuple(one for one in action.groups if one is not motion)
    return replace(contract, action=ActionSpace((group, *others), action.rate_hz, action.horizon))


def measure(contract: RobotContract, places: tuple[tuple[float, float, float], ...], ticks: int) -> dict[str, object]:
    """Return the metrics of one situation."""
    bench = Bench(contract)
    walls, cpus, reasons = [], [], {}
    for i in range(ticks):
        if i % TICKS_PER_CHUNK == 0:
            bench.ask(np.array(places[(i // TICKS_PER_PLACE) % len(places)]))
        wall, cpu, reason = bench.tick(time.thread_time)
        walls.append(wall)
        cpus.append(cpu)
        reasons[reason] = reasons.get(reason, 0) + 1
    return {"wall": _figures(walls), "cpu": _figures(cpus), "chunk_wall": _figures(bench.chunk_ms), "reasons": reasons}


def _figures(values: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(max(values), 3)}


def main() -> int:
    """Print a line for each situation and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=2000, help="ticks of each situation")
    parser.add_argument("--robot", default="panda", help="robot contract")
    arguments = parser.parse_args()
    gc.collect()
    gc.freeze()
    contract = load_contract(arguments.robot)
    spaces = {"situations": contract, "joint_situations": of_joints(contract)}
    results: dict[str, dict[str, object]] = {key: {} for key in spaces}
    for key, one in spaces.items():
        for name, places in SITUATIONS.items():
            results[key][name] = result = measure(one, places, arguments.ticks)
            print(f"{key:17s} {name:20s} wall {result['wall']}  cpu {result['cpu']}", file=sys.stderr)
    print(json.dumps({"unit": "ms", "ticks": arguments.ticks, **results}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
