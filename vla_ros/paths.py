"""Locates files that ship with the package: robot contracts, descriptions, configuration, checkpoints."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

SHARE_VARIABLE = "VLA_ROS_SHARE"


def share_roots() -> list[Path]:
    """Return folders that may hold the shipped files, best first: user's choice, source tree, prefixes."""
    roots = []
    if chosen := os.environ.get(SHARE_VARIABLE):
        roots.append(Path(chosen))
    # resolve(): in a symlinked install the module is in the source tree, with the shipped files beside it.
    roots.append(Path(__file__).resolve().parent.parent)
    roots.append(Path(sys.prefix) / "share" / "vla_ros")
    roots += [Path(p) / "share" / "vla_ros" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    return list(dict.fromkeys(roots))


def expanded(path: str | Path) -> Path:
    """Return `path` with `~` expanded, even if no shell did so; unchanged if there is no home folder."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises without a home folder)


def runtime_folder() -> Path:
    """Return a private folder of this user for files of running processes; create it if it is missing.

    Raises:
        OSError: when it cannot be created, or belongs to another user.
    """
    chosen = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = bool(chosen) and os.access(chosen, os.W_OK | os.X_OK)
    folder = Path(chosen, "vla_ros") if usable else Path(tempfile.gettempdir(), f"vla_ros_{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(1, "it is not a folder of yours", str(folder))
    return folder


def share_file(relative: str | Path) -> Path:
    """Return the absolute path of a shipped file; an absolute or existing path is only resolved.

    `~` is expanded, even if no shell did so.

    Raises:
        FileNotFoundError: naming every folder that was searched.
    """
    given = expanded(relative)
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
