"""Journal of results on disk, one JSON object per line, so that an interrupted run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Rows by key, in insertion order."""

    def __init__(self, path: Path, resume: bool) -> None:
        """Start an empty file, or with `resume` read the existing one; a truncated last line is dropped."""
        self.path = path
        self.rows: dict[str, Mapping[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if resume and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    self.rows[entry["key"]] = entry["row"]
                except (ValueError, KeyError, TypeError):
                    continue
        path.write_text("".join(map(_line, self.rows.items())), encoding="utf-8")

    def __contains__(self, key: str) -> bool:
        """Return whether there is a row for `key`."""
        return key in self.rows

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self.rows[key] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line((key, row)))


def _line(entry: tuple[str, Mapping[str, Any]]) -> str:
    return json.dumps({"key": entry[0], "row": entry[1]}) + "\n"
