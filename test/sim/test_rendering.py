"""Rendering beside training in one process."""

import importlib.util
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from vla_ros.envs.mujoco.rendering import CameraRenderer
from vla_ros.envs.registry import make_env
from vla_ros.errors import SimulationError
from vla_ros.robot.contract import load_contract

RENDER_THEN_TRAIN = """
import numpy as np
import torch
from vla_ros.robot.contract import load_contract
from vla_ros.envs.registry import make_env
from vla_ros.envs.mujoco.rendering import CameraRenderer

cell = make_env("pick", load_contract("panda"))
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


def test_a_context_holds_one_image_and_no_shadows_and_draws_the_same():
    cell = make_env("pick", load_contract("panda"))
    cell.reset(1)
    camera, before = cell.model.camera(0).name, (1080, 1920, cell.model.vis.quality.shadowsize)
    large = mujoco.Renderer(cell.model, 96, 128)  # as MuJoCo makes it
    large.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = large.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
    large.update_scene(cell.data, camera)
    expected = large.render().copy()
    large.close()
    lean = CameraRenderer(cell.model, 96, 128)
    context = lean._renderer._mjr_context
    assert (context.offHeight, context.offWidth, context.shadowSize) == (96, 128, 0)
    np.testing.assert_array_equal(lean.render(cell.data, camera), expected)
    lean.close()
    screen, quality = cell.model.vis.global_, cell.model.vis.quality
    assert (screen.offheight, screen.offwidth, quality.shadowsize) == before
    with pytest.raises(SimulationError, match="1921"):  # larger than the model allows: refused as before
        CameraRenderer(cell.model, 1080, 1921)
