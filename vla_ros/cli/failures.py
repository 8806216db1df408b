"""Error handling of the commands: expected errors, their one-sentence messages, and checks of folders."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from vla_ros.errors import UsageError, VlaError
from vla_ros.extras import advice
from vla_ros.paths import expanded

EXPECTED = (VlaError, OSError, ImportError)
"""Errors caused by the user's input or machine; any other is a bug of this package and keeps its traceback."""


def explain(error: BaseException) -> str:
    """Return one sentence that says what failed, and where."""
    if isinstance(error, VlaError):  # states what was received, what was expected and what to do
        return str(error)
    if isinstance(error, ImportError):
        if isinstance(error, ModuleNotFoundError) and (install := advice(error.name or "")):
            return f"this needs {error.name}, which is not installed: {install}"
        place = f" ({error.path})" if error.path else ""
        return f"{type(error).__name__}: {error}{place}; 'vla-ros doctor' looks for what is missing"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"


def require_working_folder() -> None:
    """Refuse to run in a deleted folder, where every relative path and many libraries would fail.

    Raises:
        UsageError: when the working folder has been deleted.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the folder that this is started in has been removed; change to another one") from error


def require_output(folder: Path, option: str = "--out") -> Path:
    """Return `folder`, `~` expanded, if it is writable or can be created; nothing is created here.

    Raises:
        UsageError: naming the file or folder that prevents it.
    """
    folder = expanded(folder)
    place = folder if folder.is_absolute() else Path.cwd() / folder
    while not (place.exists() or place.is_symlink()) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"{option} {folder}: {place} is a file, expected a folder; choose another {option}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{folder} cannot be made in {place}, which cannot be written to; choose another {option}")
    return folder
