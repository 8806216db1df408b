"""Gives every interpreter of the virtual environment a ROS 2 environment, with nothing sourced.

`setup_environment.py` copies this file into site-packages; a .pth file there imports it when Python starts. The loader
reads LD_LIBRARY_PATH only at process start, so the interpreter restarts itself once with the right one. The ROS 2
wheels do the same, but keep the settings of another virtual environment or a sourced ROS 2; two ROS 2 in one process
crash, so those are removed here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

# The wheels' own start-up file does nothing when this is set.
WHEELS_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"
GUARD = "VLA_ROS_ENVIRONMENT"


def split(paths: str) -> list[str]:
    """Return the entries of a search path."""
    return [entry for entry in paths.split(os.pathsep) if entry]


def ros_environment(environment: Mapping[str, str], prefix: Path, site_packages: Path) -> dict[str, str]:
    """Return `environment` with the search paths of the ROS 2 in `prefix`, and of no other ROS 2."""
    prefixes = [entry for entry in split(environment.get("AMENT_PREFIX_PATH", "")) if Path(entry) != prefix]
    foreign = any(Path(entry, "share", "rclpy").is_dir() for entry in prefixes)
    overlays = [] if foreign else prefixes

    def kept(variable: str) -> list[str]:
        entries = split(environment.get(variable, ""))
        if foreign:
            entries = [e for e in entries if not any(Path(e).is_relative_to(other) for other in prefixes)]
        return entries

    libraries = [str(prefix / "lib"), *map(str, sorted(site_packages.glob("ros_*.libs")))]
    paths = {
        "AMENT_PREFIX_PATH": [*overlays, str(prefix)],
        "LD_LIBRARY_PATH": [*libraries, *kept("LD_LIBRARY_PATH")],
        "PYTHONPATH": kept("PYTHONPATH"),
    }
    changed = {name: os.pathsep.join(dict.fromkeys(entries)) for name, entries in paths.items() if entries}
    others = {name: value for name, value in environment.items() if name not in paths}
    return {**others, **changed, WHEELS_GUARD: "1", GUARD: str(prefix)}


def main() -> None:
    """Restart this interpreter inside the environment, unless it already runs there."""
    if os.environ.get(GUARD) == sys.prefix or not sys.executable:
        return
    environment = ros_environment(os.environ, Path(sys.prefix), Path(__file__).parent)
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv, environment)


if __name__ == "_vla_ros_environment":
    main()
