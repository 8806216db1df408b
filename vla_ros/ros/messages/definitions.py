"""Message definitions in MCAP's "ros2msg" format, read from the installed packages."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vla_ros.data.errors import DataError

SEPARATOR = "=" * 80


def type_name(kind: type) -> str:
    """Return the name of a message class, e.g. vla_ros/msg/Observation."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def message_definition(name: str) -> str:
    """Return the definition of a message and of all nested messages in MCAP's "ros2msg" format.

    Raises:
        DataError: when one of the definitions is not installed.
    """
    texts: dict[str, str] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop(0)
        if current in texts:
            continue
        texts[current] = _definition_file(current).read_text(encoding="utf-8")
        waiting += _parts(texts[current], current.split("/")[0])
    first, *others = texts.items()
    blocks = [first[1], *(f"{SEPARATOR}\nMSG: {part.replace('/msg/', '/')}\n{text}" for part, text in others)]
    return "\n".join(blocks)


def _definition_file(name: str) -> Path:
    package, _, kind = name.split("/")
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    for prefix in prefixes:
        path = Path(prefix) / "share" / package / "msg" / f"{kind}.msg"
        if path.exists():
            return path
    raise DataError(f"the definition of {name} is in none of {prefixes}; source the ROS 2 installation")


def _parts(text: str, package: str) -> list[str]:
    """Return the names of the messages nested in a definition."""
    parts = []
    for line in text.splitlines():
        match = re.match(r"\s*(?:([a-z]\w*)/)?(?:msg/)?([A-Z]\w*)(?:\[[^\]]*\])?\s+[a-z]\w*", line.split("#")[0])
        if match:
            parts.append(f"{match.group(1) or package}/msg/{match.group(2)}")
    return parts
