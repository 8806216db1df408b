"""Measures the reference that a trajectory controller derives from commands, by command form and jitter.

    .venv/bin/python benchmarks/command_form.py --ticks 600

Steps of a real supervisor in a dry run are published with half-normal jitter: as one point on arrival, and as points
on a time grid followed by the precomputed stop. Prints the largest fractions of the velocity and acceleration limits
in the references of the controllers that the referee models; one JSON object on the last line.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.safety.motion.command_trajectory import lead
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.parameters import SafetyParameters, load_parameters
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.safety_bench.fuzz import timed_trajectories
from vla_ros.safety_bench.referee.reference_limits import CONTROLLERS, MERGING, judge_reference
from vla_ros.safety_bench.referee.trajectory_controller import TimedTrajectory

JITTERS = (0.0, 3e-4, 1e-3, 3e-3)
"""Standard deviations of the jitter before its sign is dropped, s; clipped at LATEST."""

LATEST = load_parameters().timing.tick_budget

FIRST_TICK = 100


def steps_of(contract: RobotContract, parameters: SafetyParameters, ticks: int) -> list[JointStep]:
    """Return a supervisor's steps while a policy moves from place to place, with occasional stops."""
    rng, shadow, steps = np.random.default_rng(0), Shadow(contract, parameters), []
    shadow.start()
    goal = shadow.pose().position
    for i in range(ticks):
        if i % 60 == 0:
            goal = shadow.pose().position + rng.uniform(-0.25, 0.25, 3)
        if i % 10 == 0 and i % 200 < 160:
            here = shadow.pose().position
            way = goal - here
            reach = np.minimum(0.045 * np.arange(1, contract.action.horizon + 1) / (np.linalg.norm(way) + 1e-9), 1.0)
            shadow.ask(here + np.outer(reach, way))
        if shadow.tick().joint_positions is not None:
            steps.append(shadow.supervisor.commanded)
    return steps


def one_point(steps: list[JointStep], late: list[float], period: float) -> list[TimedTrajectory]:
    """Return one cubic point for each step, due 1.5 periods after its arrival."""
    return [
        TimedTrajectory(
            (FIRST_TICK + i) * period + delay,
            0.0,
            np.array([1.5 * period]),
            step.positions[None],
            step.velocities[None],
        )
        for i, (step, delay) in enumerate(zip(steps, late, strict=True))
    ]


def on_grid(steps: list[JointStep], late: list[float], period: float) -> list[TimedTrajectory]:
    """Return the safety node's trajectories, each published with its delay after its tick."""
    ahead = lead(period, LATEST)
    published = [(step, step.due - ahead + delay) for step, delay in zip(steps, late, strict=True)]
    return timed_trajectories(published, period)


FORMS = {"one point on arrival": one_point, "points on a grid": on_grid}


def main() -> int:
    """Print a line for each form and jitter, and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=600, help="ticks of the recorded motion")
    parser.add_argument("--robot", default="panda", help="robot contract")
    arguments = parser.parse_args()
    contract, parameters = load_contract(arguments.robot), load_parameters()
    steps, period = steps_of(contract, parameters, arguments.ticks), parameters.timing.period
    start = steps[0].positions if steps[0].before is None else steps[0].before.positions[0]
    results = []
    for form, make in FORMS.items():
        for jitter in JITTERS:
            rng = np.random.default_rng(1)
            late = np.minimum(np.abs(rng.normal(0.0, jitter, len(steps))), LATEST).tolist()
            trajectories = make(steps, late, period)
            for model in (*CONTROLLERS, *MERGING):
                worst = judge_reference(trajectories, contract.joints, start, model).worst
                row = {
                    "form": form,
                    "jitter_ms": 1e3 * jitter,
                    "rate_hz": round(1.0 / model.cycle),
                    "release": model.release.value,
                    "replacement": model.replacement.value,
                    "phase": model.phase,
                    "velocity": round(worst["reference_velocity"], 3),
                    "acceleration": round(worst["reference_acceleration"], 3),
                }
                results.append(row)
                print("  ".join(f"{name} {value}" for name, value in row.items()))
    print(json.dumps({"ticks": arguments.ticks, "rows": results}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
