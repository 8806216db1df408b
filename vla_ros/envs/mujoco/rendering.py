"""Off-screen rendering of the workcell's cameras, with or without a display."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator

# MuJoCo chooses its OpenGL back end at import: without a display only EGL renders.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np

from vla_ros.errors import SimulationError
from vla_ros.types import ImageArray

EGL_HINT = (
    "install the headless OpenGL libraries, e.g. 'apt-get install libegl1 libgl1-mesa-dri', "
    "and set MUJOCO_GL=egl where mujoco is imported before vla_ros"
)


class Process:
    """Properties of this process; `trains`: it may use torch, so triton (90 MB) has to be loaded first."""

    trains = True


def load_compiler_first() -> None:
    """Import triton, if installed, before the first OpenGL context of this process.

    Mesa's software renderer and triton each bring their own LLVM. A process that has rendered crashes with a
    segmentation fault when torch's first optimizer then imports triton; in the other order both work.
    """
    if Process.trains and importlib.util.find_spec("triton") is not None:
        importlib.import_module("triton")


@contextlib.contextmanager
def _room_for(model: mujoco.MjModel, height: int, width: int) -> Iterator[None]:
    """Size contexts created inside for one image without shadows: same images, 90 MB less.

    MuJoCo sizes every context for the model's largest image and a 4096 x 4096 shadow map, whether or not shadows are
    drawn.
    """
    screen, quality = model.vis.global_, model.vis.quality
    before = screen.offheight, screen.offwidth, quality.shadowsize
    screen.offheight, screen.offwidth = min(height, screen.offheight), min(width, screen.offwidth)
    quality.shadowsize = 0
    try:
        yield
    finally:
        screen.offheight, screen.offwidth, quality.shadowsize = before


class CameraRenderer:
    """Renders images of one size; shadows and reflections are off, since they cost three times the rest."""

    def __init__(self, model: mujoco.MjModel, height: int, width: int) -> None:
        """Open an off-screen context for images of `height` x `width` pixels.

        Raises:
            SimulationError: when no OpenGL context is available.
        """
        load_compiler_first()
        try:
            with _room_for(model, height, width):
                self._renderer = mujoco.Renderer(model, height, width)
        except Exception as error:  # the back ends raise their own types
            raise SimulationError(f"no off-screen OpenGL ({type(error).__name__}: {error}); {EGL_HINT}") from error
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False

    def render(self, data: mujoco.MjData, camera: str) -> ImageArray:
        """Return (height, width, 3) uint8 RGB as `camera` sees it."""
        self._renderer.update_scene(data, camera)
        return np.ascontiguousarray(self._renderer.render(), dtype=np.uint8)

    def close(self) -> None:
        """Free the context."""
        self._renderer.close()
