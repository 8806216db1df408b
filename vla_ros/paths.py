"""Where the files that ship with the package are: robot contracts, descriptions, configuration, checkpoints."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SHARE_VARIABLE = "VLA_ROS_SHARE"


def share_roots() -> list[Path]:
    """Folders that may hold the shipped files, best first: the user's choice, a source tree, ament prefixes."""
    roots = []
    if chosen := os.environ.get(SHARE_VARIABLE):
        roots.append(Path(chosen))
    # resolve(): with a symlinked install the module lies in the source tree, and so do the files beside it.
    roots.append(Path(__file__).resolve().parent.parent)
    roots.append(Path(sys.prefix) / "share" / "vla_ros")
    roots += [Path(p) / "share" / "vla_ros" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    return roots


def share_file(relative: str | Path) -> Path:
    """Return the absolute path of a shipped file; an absolute or an existing path is returned as it is.

    Raises:
        FileNotFoundError: naming every folder that was searched.
    """
    given = Path(relative)
    if given.is_absolute() or given.exists():
        if not given.exists():
            raise FileNotFoundError(f"{given} does not exist")
        return given.resolve()
    roots = share_roots()
    for root in roots:
        if (root / given).exists():
            return root / given
    searched = ", ".join(str(root) for root in roots)
    raise FileNotFoundError(f"{given} is in none of: {searched} (set {SHARE_VARIABLE} to the folder that has it)")
