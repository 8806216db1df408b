"""Operating system packages that `make setup` needs: finds, installs if permitted, or names them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

EGL_VENDOR_FOLDERS = ("/usr/share/glvnd/egl_vendor.d", "/etc/glvnd/egl_vendor.d")


class SetupError(Exception):
    """The environment cannot be created; the message says what to do."""


@dataclass(frozen=True)
class SystemNeed:
    """A dependency that pip cannot install.

    Attributes:
        name: Human-readable name.
        present: Returns whether this machine has it.
        packages: Debian and Ubuntu packages that provide it.
    """

    name: str
    present: Callable[[], bool]
    packages: tuple[str, ...]


def loads(library: str) -> bool:
    """Return whether the dynamic loader finds `library`."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def has_egl() -> bool:
    """Return whether EGL and at least one driver for it (Mesa or NVIDIA) are installed."""
    vendors = [file for folder in EGL_VENDOR_FOLDERS for file in Path(folder).glob("*.json")]
    return loads("libEGL.so.1") and loads("libOpenGL.so.0") and bool(vendors)


def system_needs() -> list[SystemNeed]:
    """Return the operating system dependencies of the build, the tests and the demo."""
    python = f"python3.{sys.version_info.minor}"
    return [
        SystemNeed("the venv module", lambda: importlib.util.find_spec("ensurepip") is not None, (f"{python}-venv",)),
        SystemNeed(
            "the Python headers", lambda: Path(sysconfig.get_path("include"), "Python.h").exists(), (f"{python}-dev",)
        ),
        SystemNeed("a C++ compiler", lambda: any(map(shutil.which, ("c++", "g++", "clang++"))), ("g++",)),
        SystemNeed("make", lambda: shutil.which("make") is not None, ("make",)),
        SystemNeed(
            "headless OpenGL (EGL and a driver)",
            has_egl,
            ("libegl1", "libegl-mesa0", "libopengl0", "libgl1", "libgl1-mesa-dri"),
        ),
    ]


def administrator_prefix() -> list[str] | None:
    """Return the prefix of apt-get: empty for root, sudo if it asks no password, None if neither works."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "--non-interactive"]
    allowed = shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    return sudo if allowed else None


def ensure_system_packages(
    needs: Sequence[SystemNeed],
    run: Callable[[str, list[str]], None],
    prefix: Callable[[], list[str] | None] = administrator_prefix,
) -> None:
    """Install the missing ones of `needs`.

    Args:
        needs: Required dependencies.
        run: Runs a command under a title, and raises if it fails.
        prefix: See `administrator_prefix`.

    Raises:
        SetupError: naming the missing ones and the command that installs them.
    """
    missing = [need for need in needs if not need.present()]
    if not missing:
        return
    names = ", ".join(need.name for need in missing)
    packages = [package for need in missing for package in need.packages]
    command = f"sudo apt-get install -y {' '.join(packages)}"
    as_administrator = prefix()
    if as_administrator is None:
        raise SetupError(f"this machine lacks {names}. Install it, on Debian or Ubuntu with:\n    {command}")
    apt = [*as_administrator, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    run("Refreshing the package lists", [*apt, "update"])
    run(f"Installing {names}", [*apt, "install", "-y", "--no-install-recommends", *packages])
    still = [need.name for need in missing if not need.present()]
    if still:
        raise SetupError(f"{', '.join(still)} is still missing after: {command}")
