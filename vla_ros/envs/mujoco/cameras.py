"""Renders the workcell's cameras in a separate thread, so that an image never delays the physics.

The thread owns a copy of the workcell: the same seed gives it the same objects, light and table, and each request
carries the joint coordinates of the instant to render. Rendering depends on these alone, so it is bit-reproducible.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vla_ros.envs.registry import make_env  # isort: skip  (sets the OpenGL back end before mujoco is imported)

import mujoco

from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.errors import SimulationError
from vla_ros.robot.contract import RobotContract
from vla_ros.types import FloatArray, ImageArray

START_WAIT = 120.0
"""Longest wall time to build the workcell and render it for the first time, s."""


@dataclass(frozen=True)
class Frame:
    """One image: `image` (h, w, 3) uint8 RGB, `matrix` (3, 3) intrinsics px, `time` s of the rendered instant."""

    camera: str
    image: ImageArray
    matrix: FloatArray
    time: float


@dataclass(frozen=True)
class Snapshot:
    """State to render: simulation `time` s, MuJoCo coordinates `qpos`, their scene, and the camera names."""

    time: float
    qpos: FloatArray
    scene: tuple[int, str | None]
    cameras: tuple[str, ...]


class CameraThread:
    """Renders snapshots, newest first, and delivers frames. At most one request waits; an older one is dropped."""

    def __init__(
        self,
        contract: RobotContract,
        sizes: Mapping[str, tuple[int, int]],
        deliver: Callable[[Sequence[Frame]], None],
        failed: Callable[[str], None],
        world: str = "pick",
    ) -> None:
        """Start the thread and wait until it can render.

        Args:
            contract: Robot whose cameras are rendered.
            sizes: Camera to (height, width) px, replacing the contract's.
            deliver: Called in the thread with the frames of each snapshot.
            failed: Called in the thread with a message when the thread has failed.
            world: Name in the table of worlds.

        Raises:
            SimulationError: when the workcell or the OpenGL context cannot be created, or that takes too long.
        """
        self._deliver, self._failed = deliver, failed
        self._change = threading.Condition()
        self._waiting: Snapshot | None = None
        self._requested = self._delivered = 0
        self._closed = False
        self._error: Exception | None = None
        self._ready = False
        self.dropped = 0
        self._thread = threading.Thread(
            target=self._run, args=(contract, dict(sizes), world), name="cameras", daemon=True
        )
        self._thread.start()
        with self._change:
            in_time = self._change.wait_for(lambda: self._ready or self._error is not None, START_WAIT)
            self._closed = not in_time
        if not in_time:
            raise SimulationError(f"the cameras do not render within {START_WAIT:.0f} s; try 'vla-ros doctor'")
        if self._error is not None:
            raise SimulationError(f"cameras cannot render: {self._error}") from self._error

    def request(self, snapshot: Snapshot) -> int:
        """Queue a snapshot and return its ticket; a snapshot still waiting is dropped and counted."""
        with self._change:
            self.dropped += self._waiting is not None
            self._waiting = snapshot
            self._requested += 1
            self._change.notify_all()
            return self._requested

    def wait(self, ticket: int, timeout: float) -> bool:
        """Wait at most `timeout` s until snapshot `ticket`, or a later one, is delivered; return False if it is not."""
        with self._change:
            return self._change.wait_for(lambda: self._closed or self._delivered >= ticket, timeout)

    def close(self) -> None:
        """End the thread and free the renderers."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join(timeout=5.0)

    def _run(self, contract: RobotContract, sizes: Mapping[str, tuple[int, int]], world: str) -> None:
        try:
            cell = make_env(world, contract, sizes)
            for camera in contract.cameras:
                cell.render(camera.name)
        except Exception as error:  # MuJoCo and OpenGL raise their own types
            with self._change:
                self._error = error
                self._change.notify_all()
            return
        with self._change:
            self._ready = True
            self._change.notify_all()
        try:
            self._serve(cell)
        except Exception as error:  # otherwise the thread would die silently, and its cameras would just go quiet
            with self._change:
                self._closed = True
                self._change.notify_all()
            self._failed(f"the cameras ended: {type(error).__name__}: {error}")
        finally:
            cell.close()

    def _serve(self, cell: TabletopEnv) -> None:
        scene: tuple[int, str | None] | None = None
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._waiting is not None)
                if self._closed or self._waiting is None:
                    return
                snapshot, self._waiting, ticket = self._waiting, None, self._requested
            if snapshot.scene != scene:
                cell.reset(*snapshot.scene)
                scene = snapshot.scene
            cell.data.qpos[:] = snapshot.qpos
            mujoco.mj_kinematics(cell.model, cell.data)
            mujoco.mj_camlight(cell.model, cell.data)
            self._deliver(
                [
                    Frame(camera, cell.render(camera), cell.camera_matrix(camera), snapshot.time)
                    for camera in snapshot.cameras
                ]
            )
            with self._change:
                self._delivered = ticket
                self._change.notify_all()
