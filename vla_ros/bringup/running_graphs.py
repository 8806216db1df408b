"""Registry of this user's running graphs on this machine, so that they are found from any folder.

Each graph writes a note into a common folder. It holds a lock in its own folder while it runs; the kernel releases the
lock when the graph is killed, which invalidates the note.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from vla_ros.paths import runtime_folder

NOTES = "graphs"
LOCK_FILE = Path("log", ".lock")
"""Lock file in the folder of a graph."""


@dataclass(frozen=True)
class RunningGraph:
    """Absolute folder of a graph, its DDS domain, and the process that started it."""

    folder: str
    domain_id: int
    pid: int


def announce(graph: RunningGraph) -> Path:
    """Write a graph's note; return its path.

    Raises:
        OSError: when it cannot be written.
    """
    folder = runtime_folder() / NOTES
    folder.mkdir(mode=0o700, exist_ok=True)
    note = folder / f"{graph.pid}_{graph.domain_id}.json"
    temporary = note.with_suffix(".part")
    temporary.write_text(json.dumps(asdict(graph)), encoding="utf-8")
    temporary.replace(note)
    return note


def running_graphs() -> list[RunningGraph]:
    """Return this user's running graphs; remove the notes of those that have ended."""
    found = []
    try:
        notes = sorted((runtime_folder() / NOTES).glob("*.json"))
    except OSError:
        return []
    for note in notes:
        graph = _read(note)
        if graph is not None and runs(Path(graph.folder)):
            found.append(graph)
        else:
            note.unlink(missing_ok=True)
    return found


def runs(folder: Path) -> bool:
    """Return whether a graph holds the lock of `folder`."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _read(note: Path) -> RunningGraph | None:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        return RunningGraph(str(content["folder"]), int(content["domain_id"]), int(content["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
