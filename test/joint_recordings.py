"""A data set in the form in which lerobot writes an SO-101, recorded in the simulated workcell, and what it trains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from vla_ros.actions.space import ActionSpace
from vla_ros.data.lerobot import layout
from vla_ros.data.lerobot.writer import LeRobotWriter
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import Step
from vla_ros.envs.registry import make_env
from vla_ros.robot.contract import load_contract

MOTORS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
CONVENTION = {
    "rate_hz": 30.0,
    "groups": [
        {"group": "arm/joint_position", "joints": 5, "unit": "degrees"},
        {"group": "arm/gripper", "gripper": "open_is_hundred"},
    ],
}
INSTRUCTION = "pick up the red cube"
TARGET = np.array([35.0, -23.0, 17.0, 86.0, 20.0, 40.0])
"""Where every episode ends: joints in degrees, jaw in percent."""

SPEED = np.array([25.0, 25.0, 25.0, 25.0, 25.0, 60.0])  # degrees, or percent, a second
EPISODES, STEPS, STEP_TIME = 4, 66, 0.034  # s; the nearest to 1 / 30 s that the simulator steps


def record(folder: Path) -> Path:
    """Write the data set: six motors as `<motor>.pos` in degrees and percent, 30 steps a second, nothing else said."""
    contract = load_contract("so101")
    space = ActionSpace.from_dict({**CONVENTION, "horizon": 1})
    sizes = {camera.name: (camera.policy_height, camera.policy_width) for camera in contract.cameras}
    names = tuple(f"{motor}.pos" for motor in MOTORS)
    description = DatasetDescription(folder.name, space, tuple(sizes), names)
    env = make_env("pick", contract)
    with LeRobotWriter(folder, description, sizes, video_files=False) as writer:
        for number in range(EPISODES):
            writer.write(_episode(env, number, space, names))
    env.close()
    (folder / layout.CONVENTION).unlink()
    info = json.loads((folder / layout.INFO).read_text(encoding="utf-8"))
    del info["features"]["action"][layout.CONVENTION_LINE]
    (folder / layout.INFO).write_text(json.dumps(info), encoding="utf-8")
    return folder


def table(folder: Path) -> Path:
    """Write the table that says what the data set does not: the convention of its columns."""
    path = folder.with_suffix(".yaml")
    line = {"format": "lerobot", "path": str(folder), "weight": 1, "convention": CONVENTION}
    path.write_text(yaml.safe_dump([line]), encoding="utf-8")
    return path


def _episode(env, number, space, names):
    env.reset(number)
    wide = env.contract.gripper.max_opening
    reference = _measured(env, wide)
    steps = []
    for index in range(STEPS):
        observation, state = env.observe(), _measured(env, wide)
        way = TARGET - reference
        reference = reference + np.sign(way) * np.minimum(np.abs(way), SPEED / 30.0)
        steps.append(
            Step(
                images=observation.images,
                instruction=INSTRUCTION,
                proprioception=state,
                action=reference,
                convention=space,
                task="reach",
                episode=f"{number:06d}",
                index=index,
                timestamp=index / 30.0,
                last=index == STEPS - 1,
                success=True,
                proprioception_names=names,
            )
        )
        env.command(np.radians(reference[:5]), reference[5] / 100.0 * wide)
        env.step(STEP_TIME)
    return [replace(step, images={name: np.array(image) for name, image in step.images.items()}) for step in steps]


def _measured(env, wide):
    state = env.state()
    return np.array([*np.degrees(state.joint_positions), 100.0 * state.gripper_opening / wide])
