"""Off-screen rendering of the cell's cameras, with or without a display."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator

# MuJoCo chooses its OpenGL back end when it is imported: without a display only EGL renders.
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
    """What is known of this process: `trains` says that it may use torch; triton, 90 MB, is not loaded otherwise."""

    trains = True


def load_compiler_first() -> None:
    """Load triton, where it is installed, before the first OpenGL context of this process.

    Mesa's software renderer and triton bring an LLVM each. A process that has rendered, and in which the first
    optimizer of torch then imports triton, ends with a segmentation fault; in the other order both work.
    """
    if Process.trains and importlib.util.find_spec("triton") is not None:
        importlib.import_module("triton")


@contextlib.contextmanager
def _room_for(model: mujoco.MjModel, height: int, width: int) -> Iterator[None]:
    """Have a context that is made meanwhile hold one image and no shadows: the pictures are the same, in 90 MB less.

    MuJoCo makes every context for the greatest image of the model and a map of 4096 x 4096 shadows, whether or not
    it draws them.
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
    """Renders one size of image; shadows and reflections are off, for they cost three times the rest."""

    def __init__(self, model: mujoco.MjModel, height: int, width: int) -> None:
        """Open an off-screen context for images of `height` x `width` pixels.

        Raises:
            SimulationError: when no OpenGL context can be had.
        """
        load_compiler_first()
        try:
            with _room_for(model, height, width):
                self._renderer = mujoco.Renderer(model, height, width)
        except Exception as error:  # the back ends raise types of their own
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
