"""Find libraries that PYTHONPATH puts before this environment's own, and check that they work.

A compiled library that loads another version of NumPy segfaults, and so do two ROS 2 installations in one process; each
is therefore tried in a child process.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from vla_ros.errors import VlaError

TRIALS = {
    "numpy": "import numpy, pinocchio",
    "torch": "import numpy, torch; torch.nn.Linear(2, 2).double()(torch.from_numpy(numpy.zeros(2))).sum().backward()",
    "mujoco": "import mujoco; mujoco.MjModel.from_xml_string('<mujoco/>')",
    "rclpy": "import rclpy, rclpy.node",
}
"""Maps each library to a program that shows whether it works."""

TRIAL_LIMIT = 60.0
"""Timeout of one trial, s."""

ADVICE = "unset PYTHONPATH, or take that folder out of it"


def shadowed() -> dict[str, Path]:
    """Map each library of `TRIALS` that PYTHONPATH puts before this environment's own to its folder."""
    own = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    folders = [Path(entry).resolve() for entry in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    found = {}
    for name in TRIALS:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or not any((place / name).is_dir() for place in own):
            continue
        if any(origin.is_relative_to(folder) for folder in folders) and not any(map(origin.is_relative_to, own)):
            found[name] = origin.parent
    return found


def require_own_libraries() -> None:
    """Refuse to continue with a library from PYTHONPATH that does not work in this environment.

    Raises:
        VlaError: names the library's folder.
    """
    for name, place in shadowed().items():
        command = [sys.executable, "-c", TRIALS[name]]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=TRIAL_LIMIT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise VlaError(f"{sentence(name, place)}, does not load within {TRIAL_LIMIT:.0f} s; {ADVICE}") from error
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
            raise VlaError(f"{sentence(name, place)}, does not work here ({lines[-1]}); {ADVICE}")


def sentence(name: str, place: Path) -> str:
    """Describe where a library comes from."""
    return f"the {name} in {place}, which PYTHONPATH puts before this environment's own"
