"""Signed result of the fault table, tied to everything it depends on: contract, shapes, parameters, code, libraries.

The table is deterministic, so a pass stays valid while none of these change. It is kept for a limited time, so that a
restarted node need not spend half a minute of a busy machine on it; a failure is never kept.

A record names every row of the table in this code, and is signed with a key of the user that no other user can read. A
file left there by another user, another machine or an honest but different program therefore cannot arm the robot. A
program of the same user can read the key, and could just as well change the code: no file protects against that.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import importlib.metadata
import json
import os
import platform
import secrets
import stat
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

import vla_ros
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.motion.collision import mesh_files
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.selftest.table import fault_table
from vla_ros.safety.selftest.trial import FaultRow

ROOMS = ("actions", "robot", "safety")
FILES = ("types.py", "errors.py", "yaml_files.py")
UNDER_WAY = "the self-test is under way"
"""Start of an answer that asks the caller to wait."""

KEY_FILE = "key"
KEY_BYTES = 32

LARGEST_RECORD = 1 << 20
"""Size limit of a file that is read, bytes; the table has a few hundred rows."""

LIBRARIES = ("numpy", "pin", "coal", "ruckig", "daqp")


@dataclass(frozen=True)
class SelftestRecord:
    """Result of one run of the fault table.

    Attributes:
        fingerprint: Digest of everything it depends on.
        tried: Number of faults.
        missed: One message for each fault that was not stopped.
        finished: End of the run, s since 1970.
        stopped: Names of the faults that were stopped, in the order of the table.
    """

    fingerprint: str
    tried: int
    missed: tuple[str, ...]
    finished: float
    stopped: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every fault in this code's table was tried and stopped."""
        return not self.missed and self.tried == len(self.stopped) and self.stopped == table_names()


def table_names() -> tuple[str, ...]:
    """Return the names of all faults, in the order of the table."""
    return tuple(fault.name for fault in fault_table())


def record_of(mark: str, rows: Sequence[FaultRow]) -> SelftestRecord:
    """Return the record of a run with results `rows`, under fingerprint `mark`, finished now."""
    missed = tuple(f"{row.name}: {row.sentence}" for row in rows if not row.stopped)
    stopped = tuple(row.name for row in rows if row.stopped)
    return SelftestRecord(mark, len(rows), missed, time.time(), stopped)


def fingerprint(contract: RobotContract, parameters: SafetyParameters) -> str:
    """Return a digest of everything that the result of the fault table depends on."""
    digest = hashlib.sha256()
    _feed(digest, contract)
    _feed(digest, parameters)
    for path in mesh_files(contract):
        digest.update(path.read_bytes())
    package = Path(vla_ros.__file__).resolve().parent  # a symlinked install lacks files newer than its build
    sources = [package / name for name in FILES]
    sources += sorted(path for room in ROOMS for path in (package / room).rglob("*.py"))
    for path in sources:
        digest.update(str(path.relative_to(package)).encode())
        digest.update(path.read_bytes())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    digest.update(" ".join([*versions, platform.python_version(), platform.machine()]).encode())
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:  # noqa: ANN401 (a digest of hashlib; any field)
    """Hash a value with its type, so that different values never hash alike."""
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
    """Return the folder of kept passes: `$XDG_CACHE_HOME/vla_ros/selftest`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla_ros" / "selftest"


def recall(folder: Path, mark: str, max_age: float) -> SelftestRecord | None:
    """Return the pass kept under fingerprint `mark`, if at most `max_age` s old; else None."""
    return examine(folder, mark, max_age)[0]


def examine(folder: Path, mark: str, max_age: float) -> tuple[SelftestRecord | None, str]:
    """Return the kept pass, or None and the reason why none is valid.

    Args:
        folder: Folder of kept passes.
        mark: Required fingerprint.
        max_age: Maximum age, s.
    """
    path = folder / f"{mark}.json"
    try:
        for place in (folder, path, folder / KEY_FILE):
            if complaint := _not_private(place):
                return None, complaint
        key, kept = _read(folder / KEY_FILE), json.loads(_read(path))
        body, signature = kept["record"], kept["signature"]
        if not hmac.compare_digest(_sign(key, body), str(signature)):
            return None, f"{path} was not signed with the key of this user"
        record = SelftestRecord(
            str(body["fingerprint"]),
            int(body["tried"]),
            tuple(body["missed"]),
            float(body["finished"]),
            tuple(body["stopped"]),
        )
    except FileNotFoundError:
        return None, f"no self-test of this contract, these parameters and this code is kept in {folder}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"{path} is no record of a self-test ({type(error).__name__}: {error})"
    if record.fingerprint != mark:
        return None, f"{path} is for another contract, other parameters or other code"
    if not record.passed:
        return None, f"{path} does not name every fault of this code as stopped"
    age = time.time() - record.finished
    if not 0.0 <= age <= max_age:
        return None, f"{path} is {age:.0f} s old, expected 0 to {max_age:.0f}"
    return record, ""


def keep(folder: Path, record: SelftestRecord) -> bool:
    """Save a pass; return whether it was saved. An unwritable folder only costs the next start its time."""
    if not record.passed:
        return False
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _not_private(folder):
            return False
        body = json.loads(json.dumps(asdict(record)))
        text = json.dumps({"record": body, "signature": _sign(_key(folder), body)})
        part = folder / f"{record.fingerprint}.{os.getpid()}.part"
        part.unlink(missing_ok=True)
        _create(part, text.encode())
        part.replace(folder / f"{record.fingerprint}.json")
        return True
    return False


def _sign(key: bytes, body: object) -> str:
    return hmac.new(key, json.dumps(body, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _key(folder: Path) -> bytes:
    """Return the key in `folder`; create it if there is none that only this user can read."""
    path = folder / KEY_FILE
    if path.exists() and not _not_private(path):
        return _read(path)
    part = folder / f"{KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}.part"
    _create(part, secrets.token_bytes(KEY_BYTES))
    if path.exists():  # not private: its signatures are no longer valid
        path.unlink()
    try:
        os.link(part, path)  # fails if another process was first: then use its key
    except FileExistsError:
        if complaint := _not_private(path):
            raise OSError(complaint) from None
    finally:
        part.unlink()
    return _read(path)


def _create(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(content)


def _read(path: Path) -> bytes:
    content = path.read_bytes() if path.stat().st_size <= LARGEST_RECORD else b""
    if path.name == KEY_FILE and len(content) != KEY_BYTES:
        raise ValueError(f"{path} has {len(content)} bytes, expected {KEY_BYTES}")
    return content


def _not_private(path: Path) -> str:
    """Return why other users may have written `path` (or read it, for the key); "" if they cannot have."""
    found = path.lstat()
    forbidden = 0o077 if path.name == KEY_FILE else 0o022
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link, expected a file or folder of its own"
    if found.st_uid != os.getuid():
        return f"{path} belongs to user {found.st_uid}, expected {os.getuid()}"
    if found.st_mode & forbidden:
        return f"{path} has mode {stat.S_IMODE(found.st_mode):04o}: others could have changed it; remove it"
    return ""
