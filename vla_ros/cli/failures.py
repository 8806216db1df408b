"""One sentence, and one JSON line, for whatever ends a command before its end."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from vla_ros.errors import UsageError, VlaError
from vla_ros.extras import advice
from vla_ros.paths import expanded

EXPECTED = (VlaError, OSError, ImportError)
"""Errors that the user's input or machine causes; any other is a fault of this package, and keeps its traceback."""


def explain(error: BaseException) -> str:
    """Return what went wrong, in one sentence that says where."""
    if isinstance(error, VlaError):  # says what was got, what was expected and what to do
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
    """Refuse to run in a folder that has been removed: every relative path, and many a library, would fail there.

    Raises:
        UsageError: when it has.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the folder that this is started in has been removed; change to another one") from error


def require_output(folder: Path, option: str = "--out") -> Path:
    """Return `folder`, `~` expanded, when it is there to write to or can be made; nothing is made here.

    Raises:
        UsageError: saying what stands in the way.
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
