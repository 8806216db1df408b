"""Move models in Gazebo through the `gz` command, which is part of every Gazebo; ros_gz bridges no such service."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Mapping

from vla_ros.errors import SimulationError

CALL_TIMEOUT = 5.0
"""Timeout of a call to Gazebo, s."""


def pose_request(poses: Mapping[str, tuple[float, float, float, float]]) -> str:
    """Format a gz.msgs.Pose_V as text for models at x, y, z (m) and yaw (rad)."""
    parts = []
    for name, (x, y, z, yaw) in poses.items():
        if not all(map(math.isfinite, (x, y, z, yaw))) or not name.replace("_", "").isalnum():
            raise SimulationError(f"cannot place '{name}' at {x}, {y}, {z}, {yaw}")
        w, k = math.cos(yaw / 2.0), math.sin(yaw / 2.0)
        parts.append(
            f'pose {{ name: "{name}" position {{ x: {x:.6f} y: {y:.6f} z: {z:.6f} }} '
            f"orientation {{ w: {w:.9f} z: {k:.9f} }} }}"
        )
    return " ".join(parts)


class PoseCall:
    """One request to move models, running in a child process; `finished` never blocks."""

    def __init__(self, world: str, poses: Mapping[str, tuple[float, float, float, float]]) -> None:
        """Ask Gazebo to move models to `poses`, all in one step.

        Raises:
            SimulationError: when there is no `gz` command.
        """
        command = shutil.which("gz")
        if command is None:
            raise SimulationError("there is no command 'gz': is Gazebo installed on this machine, and sourced?")
        self._process = subprocess.Popen(
            [
                command,
                "service",
                "-s",
                f"/world/{world}/set_pose_vector",
                "--reqtype",
                "gz.msgs.Pose_V",
                "--reptype",
                "gz.msgs.Boolean",
                "--timeout",
                str(round(1e3 * CALL_TIMEOUT)),
                "--req",
                pose_request(poses),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finished(self) -> bool:
        """Return whether the reply has arrived.

        Raises:
            SimulationError: when Gazebo refused or did not reply.
        """
        if self._process.poll() is None:
            return False
        answer = self._process.stdout.read() if self._process.stdout else ""
        if self._process.returncode != 0 or "data: true" not in answer:
            raise SimulationError(f"Gazebo did not move the objects: {answer.strip()[-200:] or 'no answer'}")
        return True

    def close(self) -> None:
        """Kill the process if it is still running."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=1.0)
