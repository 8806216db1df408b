"""Rendering beside training in one process."""

import importlib.util
import subprocess
import sys

import pytest

RENDER_THEN_TRAIN = """
import numpy as np
import torch
from vla_ros.robot.contract import load_contract
from vla_ros.sim.cell import Cell
from vla_ros.sim.rendering import CameraRenderer

cell = Cell(load_contract("panda"))
cell.reset(1)
renderer = CameraRenderer(cell.model, 96, 96)
assert renderer.render(cell.data, cell.model.camera(0).name).std() > 1.0
weights = torch.nn.Linear(4, 4)
torch.optim.AdamW(weights.parameters())
print("both")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="this torch comes without triton")
def test_a_process_that_has_rendered_can_train():
    done = subprocess.run([sys.executable, "-c", RENDER_THEN_TRAIN], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "both\n"), done.stderr[-2000:]
