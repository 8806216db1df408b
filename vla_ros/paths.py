"""Where the files that ship with the package are: robot contracts, descriptions, configuration, checkpoints."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
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
    return list(dict.fromkeys(roots))


def expanded(path: str | Path) -> Path:
    """Return `path` with `~` expanded, also where no shell has done so; as it is where there is no home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises where there is no home)


def runtime_folder() -> Path:
    """Return a folder of this user alone for what only running processes need; it is made where it is missing.

    Raises:
        OSError: when it cannot be made, or is another user's.
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
    """Return the absolute path of a shipped file; an absolute or an existing path is returned as it is.

    `~` is expanded, also where no shell has done so.

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
