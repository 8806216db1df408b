"""What the shipped checkpoints say about one fixed observation, computed before the processor existed."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.paths import share_file
from vla_ros.policies.local import LocalPolicy
from vla_ros.policies.registry import SHIPPED
from vla_ros.processing.processor import Processor
from vla_ros.robot.contract import load_contract
from vla_ros.types import Instruction, Observation, Pose, RobotState

ROWS = (0, 5, 11)
"""Of the chunk of twelve that are kept here."""

GOLDEN = {
    "pick": (
        "pick up the red cube",
        [
            [0.0028535476, 0.01367629, -0.037235077, 0.12202125, -0.19645135, 0.35967654, 1],
            [-0.033169602, 0.068369619, -0.15901685, 0.12406383, -0.18925534, 0.36105468, 1],
            [-0.015286062, 0.10094045, -0.37555626, 0.11390088, -0.18461077, 0.3563944, 0],
        ],
    ),
    "tabletop": (
        "put the red cube in the blue bowl",
        [
            [-0.014276894, 0.018906644, -0.012810383, 0.10013175, -0.19847778, 0.37622442, 1],
            [-0.11303349, 0.12197315, -0.085437527, 0.10027998, -0.19837822, 0.3765108, 1],
            [-0.20200784, 0.27506266, -0.19484377, 0.10048656, -0.19885764, 0.3760199, 1],
        ],
    ),
}


def observation(sizes: dict[str, tuple[int, int]], instruction: str) -> Observation:
    """Images of a gradient, stripes and noise; a pose that no symmetry hides an error of."""
    rng = np.random.default_rng(7)
    images = {}
    for name, (height, width) in sizes.items():
        y, x = np.mgrid[0:height, 0:width]
        pattern = np.stack([x * 255 / width, y * 255 / height, ((x + y) * 3) % 256], axis=-1)
        images[name] = (0.7 * pattern + 0.3 * rng.integers(0, 256, pattern.shape)).astype(np.uint8)
    pose = Pose([0.45, -0.1, 0.3], [0.974130503, -0.190260461, -0.1115814, 0.049196666])
    state = RobotState(np.linspace(-0.5, 0.5, 7), np.zeros(7), 0.05, pose, 1.0)
    return Observation(images, state, Instruction(instruction, 1), 1.0, 3)


@pytest.mark.parametrize("name", GOLDEN)
def test_shipped_checkpoint_says_what_it_said(name: str) -> None:
    instruction, rows = GOLDEN[name]
    policy = LocalPolicy(share_file(SHIPPED[name]), load_contract("panda"), "cpu")
    seen = observation(policy.image_sizes, instruction)
    policy.reset(seen.instruction)
    chunk = policy.predict(seen)
    assert chunk.specification == "a0340f3a0d72316f"
    np.testing.assert_allclose(chunk.actions[list(ROWS)], rows, rtol=1e-4, atol=1e-6)
    again = Processor.from_dict(policy.processor.to_dict())  # as it is written from now on
    assert again.to_dict() == policy.processor.to_dict()
