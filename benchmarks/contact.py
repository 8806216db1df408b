"""Measures the contact force on an immovable, undeclared box, with and without contact detection; false stops.

    .venv/bin/python benchmarks/contact.py --plot docs/images/contact.png
    .venv/bin/python benchmarks/contact.py --episodes 100

MuJoCo, no graph: the tool follows a straight plan through the box at 0.1, 0.2 and 0.45 m/s. Forces are sums of MuJoCo's
contact forces on the box at every physics step. `--episodes` counts the episodes of the scripted expert (pick, and
stack on the tabletop) in which the layer reports a contact. One JSON object on the last line.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from vla_ros.envs.registry import make_env  # isort: skip  (sets the OpenGL back end before mujoco is imported)

import mujoco
import numpy as np

from vla_ros.actions.decoding import PoseTrajectory, encode
from vla_ros.envs.collector import CONTROL_PERIOD
from vla_ros.envs.mujoco.model import ARM_BITS, OBJECT_BITS, TIMESTEP, build_model
from vla_ros.envs.tabletop.config import PICK
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.envs.tabletop.expert import observe_commands, plan_command
from vla_ros.evaluation.executors import SafetyExecutor
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.types import ActionChunk, FloatArray, Instruction, RobotState

SPEEDS = (0.1, 0.2, 0.45)
"""Tool speeds, m/s."""

BOXES = {"tool": ((0.55, 0.22, 0.30), (0.20, 0.04, 0.06)), "forearm": ((0.30, 0.21, 0.62), (0.20, 0.04, 0.06))}
"""Center and half sizes of the box, m: beside the fingers, or beside the forearm above the hand."""

RELEASED = 5.0
"""Contact force below which the contact has ended, N."""

WAY = 0.38
"""Length of the plan, m: it ends far beyond the box."""

SECONDS_AFTER = 1.5
MODES = ("off", "tracking", "effort")


class BoxEnv(TabletopEnv):
    """The pick environment with an immovable box, which records the force on it."""

    def __init__(self, contract: RobotContract, box: str) -> None:
        """Place one of `BOXES`."""
        self._box = box
        self.forces: list[float] = []
        super().__init__(contract, PICK)

    def _build(self) -> mujoco.MjModel:
        position, size = BOXES[self._box]

        def furnish(spec: mujoco.MjSpec) -> None:
            spec.worldbody.add_geom(
                name="box",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=list(position),
                size=list(size),
                contype=OBJECT_BITS,
                conaffinity=ARM_BITS | OBJECT_BITS,
            )

        return build_model(self.contract, furnish=furnish)

    def _instant_efforts(self) -> FloatArray:
        box, wrench, total = self.model.geom("box").id, np.zeros(6), np.zeros(3)
        for index in range(self.data.ncon):
            contact = self.data.contact[index]
            if box in contact.geom:
                mujoco.mj_contactForce(self.model, self.data, index, wrench)
                total += (1.0 if contact.geom[1] == box else -1.0) * contact.frame.reshape(3, 3).T @ wrench[:3]
        self.forces.append(float(np.linalg.norm(total)))
        return super()._instant_efforts()


@dataclass(frozen=True)
class Approach:
    """Force over time, N at every physics step from the first contact on, and the layer's last status."""

    forces: FloatArray
    reason: str
    detail: str

    def summary(self) -> dict[str, object]:
        """Return the metrics of the approach."""
        above = np.flatnonzero(self.forces >= RELEASED)
        last = int(above[-1]) + 1 if len(above) else 0
        return {
            "peak_n": round(float(self.forces.max(initial=0.0)), 1),
            "release_s": round(last * TIMESTEP, 3) if last < len(self.forces) else None,
            "final_n": round(float(self.forces[-50:].mean()), 1) if len(self.forces) else None,
            "reason": self.reason,
            "sentence": self.detail,
        }


def with_mode(contract: RobotContract, mode: str) -> RobotContract:
    """Return the contract without contact detection, with tracking alone, or unchanged."""
    if mode == "off":
        return replace(contract, contact=None)
    if mode == "tracking" and contract.contact is not None:
        return replace(contract, contact=replace(contract.contact, effort=None))
    return contract


def approach(contract: RobotContract, box: str, speed: float) -> Approach:
    """Move the tool along a straight line to the left through the box at `speed` m/s."""
    cell = BoxEnv(contract, box)
    order = Instruction(cell.reset(0), sequence=1)
    cell.data.qpos[cell._arm] = contract.joints.home
    cell.command(contract.joints.home, contract.gripper.max_opening)
    cell.data.qvel[:] = 0.0
    cell.step(0.3)
    executor = SafetyExecutor(contract, load_parameters())
    executor.start(cell, order)
    start, began, due, number = cell.state().end_effector, cell.time, cell.time, 0
    cell.forces.clear()
    duration = WAY / speed + SECONDS_AFTER
    while cell.time - began < duration:
        state = cell.state()
        if state.stamp >= due - 1e-9:
            due, number = due + contract.action.period, number + 1
            executor.receive(
                _line(contract, state, start.position, speed, state.stamp - began, number),
                state.end_effector,
                state.stamp,
            )
        executor.control(cell, state, state.stamp)
        cell.step(CONTROL_PERIOD)
    cell.close()
    forces = np.array(cell.forces)
    touched = np.flatnonzero(forces > 0.1)
    decision = executor.decisions[-1]
    return Approach(forces[touched[0] :] if len(touched) else np.zeros(0), decision.reason, decision.sentence)


def _line(
    contract: RobotContract, state: RobotState, origin: FloatArray, speed: float, elapsed: float, number: int
) -> ActionChunk:
    """Return the plan of a line that ignores the box: it continues whether the tool follows or not."""
    action, start = contract.action, state.end_effector
    ways = np.minimum(speed * (elapsed + action.period * np.arange(1, action.horizon + 1)), WAY)
    places = origin + np.outer(ways, [0.0, 1.0, 0.0])
    wide = contract.gripper.max_opening
    home = np.tile(start.quaternion, (len(ways), 1))
    rows = encode(PoseTrajectory(places, home, np.full(len(ways), wide)), action, start, wide)
    return ActionChunk(
        rows,
        action.period,
        state.stamp,
        action.fingerprint,
        observation_sequence=number,
        instruction_sequence=1,
        policy="line",
        sequence=number,
    )


def _expert_plan(cell: TabletopEnv, contract: RobotContract) -> PoseTrajectory:
    action, gripper = contract.action, contract.gripper
    situation = observe_commands(cell, [cell.command_wanted])[0]
    return plan_command(situation, action.horizon, action.period, gripper.max_opening, gripper.velocity)


def episode(cell: TabletopEnv, contract: RobotContract, order: str, seconds: float) -> tuple[bool, str]:
    """Play the environment's scene; return whether it succeeded, and the reported contact, or ""."""
    executor = SafetyExecutor(contract, load_parameters())
    executor.start(cell, Instruction(order, sequence=1))
    due, number, began = cell.time, 0, cell.time
    while cell.time - began < seconds:
        state = cell.state()
        if state.stamp >= due - 1e-9:
            due, number = due + contract.action.period, number + 1
            rows = encode(
                _expert_plan(cell, contract), contract.action, state.end_effector, contract.gripper.max_opening
            )
            chunk = ActionChunk(
                rows,
                contract.action.period,
                state.stamp,
                contract.action.fingerprint,
                observation_sequence=number,
                instruction_sequence=1,
                policy="expert",
                sequence=number,
            )
            executor.receive(chunk, state.end_effector, state.stamp)
        executor.control(cell, state, state.stamp)
        cell.step(CONTROL_PERIOD)
        if executor.decisions[-1].reason == "contact":
            return False, executor.decisions[-1].sentence
        if cell.success():
            return True, ""
    return False, ""


def false_stops(contract: RobotContract, task: str, episodes: int) -> dict[str, object]:
    """Play `episodes` of the expert and count those with a reported contact."""
    from vla_ros.envs.tabletop.scene import sample_command
    from vla_ros.language.commands import Act
    from vla_ros.language.phrasing import Wording, say

    cell = make_env("pick" if task == "pick" else "tabletop", contract)
    stops, won = [], 0
    for seed in range(episodes):
        if task == "pick":
            order, seconds = cell.reset(seed), 12.0
        else:
            rng = np.random.default_rng([seed, 3])
            sentence = say(sample_command(rng, Act.STACK, held_out=False), Wording.TAUGHT, rng)
            order, seconds = cell.reset(seed, sentence), 20.0
        success, contact = episode(cell, contract, order, seconds)
        won += success
        if contact:
            stops.append({"seed": seed, "sentence": contact})
        print(f"{task} {seed + 1}/{episodes}: {len(stops)} stops, {won} successes", file=sys.stderr)
    cell.close()
    return {
        "episodes": episodes,
        "false_stops": len(stops),
        "fraction": len(stops) / max(episodes, 1),
        "success_rate": won / max(episodes, 1),
        "stops": stops,
    }


def plot(results: dict[str, dict[str, dict[float, Approach]]], path: Path) -> None:
    """Plot force over time: a column per speed, a row per box."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(results), len(SPEEDS), figsize=(11, 3.2 * len(results)), sharey="row", squeeze=False
    )
    for row, (box, modes) in zip(axes, results.items(), strict=True):
        for axis, speed in zip(row, SPEEDS, strict=True):
            for mode, label in zip(MODES, ("no detection", "tracking", "tracking and effort"), strict=True):
                forces = modes[mode][speed].forces
                axis.plot(TIMESTEP * np.arange(len(forces)), forces, label=label, linewidth=1.2)
            axis.set(title=f"{box}, {speed} m/s", xlabel="s since first contact", xlim=(-0.02, 0.8))
            axis.grid(alpha=0.3)
        row[0].set_ylabel("contact force, N")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> int:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", default="panda", help="robot contract")
    parser.add_argument("--plot", type=Path, help="where to write the plot")
    parser.add_argument("--episodes", type=int, default=0, help="pick and stack episodes each, in place of the box")
    arguments = parser.parse_args()
    contract = load_contract(arguments.robot)
    if arguments.episodes:
        print(json.dumps({task: false_stops(contract, task, arguments.episodes) for task in ("pick", "stack")}))
        return 0
    results = {
        box: {mode: {speed: approach(with_mode(contract, mode), box, speed) for speed in SPEEDS} for mode in MODES}
        for box in BOXES
    }
    if arguments.plot is not None:
        plot(results, arguments.plot)
    print(
        json.dumps(
            {
                "unit": "N, s from the first contact",
                "approaches": {
                    box: {
                        mode: {str(speed): one.summary() for speed, one in speeds.items()}
                        for mode, speeds in modes.items()
                    }
                    for box, modes in results.items()
                },
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
