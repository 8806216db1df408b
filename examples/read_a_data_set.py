"""Write a small LeRobot data set, and read it back step by step, as training does.

Run: python examples/read_a_data_set.py
"""

import tempfile
from pathlib import Path

import numpy as np

from vla_ros import load_contract
from vla_ros.data.lerobot.reader import LeRobotReader
from vla_ros.data.lerobot.writer import LeRobotWriter
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import Step

contract, steps = load_contract("panda"), 12
space = contract.action
joints = tuple(contract.joints.names)
about = DatasetDescription("example", space, ("front",), joints, contract.gripper.max_opening)

with tempfile.TemporaryDirectory() as folder:
    with (
        LeRobotWriter(Path(folder, "set"), about, {"front": (96, 128)}, robot=contract.name) as writer,
        writer.episode("000000", "reach") as episode,
    ):
        for i in range(steps):
            action = np.zeros(space.width)
            action[0], action[-1] = 0.01, contract.gripper.max_opening  # m: 1 cm forward, the gripper open
            image = np.full((96, 128, 3), 20 * i, np.uint8)
            episode.add(
                Step(
                    images={"front": image},
                    instruction="go forward",
                    proprioception=np.array(contract.joints.home),
                    action=action,
                    convention=about.convention,
                    task="reach",
                    episode="000000",
                    index=i,
                    timestamp=i * space.period,
                    last=i == steps - 1,
                    success=True,
                    proprioception_names=joints,
                )
            )
        episode.commit(success=True)

    reader = LeRobotReader(Path(folder, "set"))
    print(len(reader.episodes), "episode at", 1.0 / reader.description.convention.period, "steps a second")
    for step in reader.read(reader.episodes[0]):
        brightness = step.images["front"].mean()
        print(f"{step.timestamp:.1f} s '{step.instruction}': x by {step.action[0]:.2f} m, brightness {brightness:.0f}")
