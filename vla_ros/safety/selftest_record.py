"""What the fault table came to, tied to all that it depends on: contract, shapes, parameters, code, libraries.

The table is deterministic, so a pass stays true for as long as nothing of that changes. It is kept for a while, so that
a node that is started again need not spend half a minute of a busy machine on it; a failure is never kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

import vla_ros
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.collision import mesh_files
from vla_ros.safety.parameters import SafetyParameters

ROOMS = ("actions", "robot", "safety")
FILES = ("types.py", "errors.py", "yaml_files.py")
UNDER_WAY = "the self-test is under way"
"""How an answer begins that says to wait."""

LIBRARIES = ("numpy", "pin", "coal", "ruckig", "daqp")


@dataclass(frozen=True)
class SelftestRecord:
    """One run of the fault table.

    Attributes:
        fingerprint: Of all that it depends on.
        tried: Number of faults.
        missed: A sentence for each that was not stopped.
        finished: When, s since 1970.
    """

    fingerprint: str
    tried: int
    missed: tuple[str, ...]
    finished: float

    @property
    def passed(self) -> bool:
        """Say whether there were faults and every one was stopped."""
        return self.tried > 0 and not self.missed


def fingerprint(contract: RobotContract, parameters: SafetyParameters) -> str:
    """Return a digest of everything that the result of the fault table depends on."""
    digest = hashlib.sha256()
    _feed(digest, contract)
    _feed(digest, parameters)
    for path in mesh_files(contract):
        digest.update(path.read_bytes())
    package = Path(vla_ros.__file__).resolve().parent  # a symlinked install lacks files that are newer than its build
    sources = [package / name for name in FILES]
    sources += sorted(path for room in ROOMS for path in (package / room).rglob("*.py"))
    for path in sources:
        digest.update(str(path.relative_to(package)).encode())
        digest.update(path.read_bytes())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    digest.update(" ".join([*versions, platform.python_version(), platform.machine()]).encode())
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:  # noqa: ANN401 (a digest of hashlib; any field)
    """Feed a value with its type, so that no two different ones look the same."""
    digest.update(f"<{type(value).__name__}>".encode())
    if is_dataclass(value):
        for field in fields(value):
            digest.update(field.name.encode())
            _feed(digest, getattr(value, field.name))
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Path):
        digest.update(value.read_bytes())
    elif isinstance(value, (tuple, list)):
        digest.update(str(len(value)).encode())
        for one in value:
            _feed(digest, one)
    elif isinstance(value, Enum):
        digest.update(value.name.encode())
    else:
        digest.update(repr(value).encode())


def default_folder() -> Path:
    """Return where passes are kept: `$XDG_CACHE_HOME/vla_ros/selftest`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla_ros" / "selftest"


def recall(folder: Path, mark: str, max_age: float) -> SelftestRecord | None:
    """Return the pass that is kept under fingerprint `mark` and is at most `max_age` s old, or None."""
    try:
        values = json.loads((folder / f"{mark}.json").read_text(encoding="utf-8"))
        record = SelftestRecord(
            str(values["fingerprint"]), int(values["tried"]), tuple(values["missed"]), float(values["finished"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    fresh = 0.0 <= time.time() - record.finished <= max_age
    return record if record.passed and record.fingerprint == mark and fresh else None


def keep(folder: Path, record: SelftestRecord) -> None:
    """Keep a pass; a folder that cannot be written only costs the next start its time."""
    if not record.passed:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{record.fingerprint}.{os.getpid()}.part"
        part.write_text(json.dumps(asdict(record)), encoding="utf-8")
        part.replace(folder / f"{record.fingerprint}.json")
