"""The one reader of YAML: no key stands twice, no text is without bound, and what is wrong says where."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from vla_ros.errors import ContractError

LARGEST_TEXT = 1 << 20
"""Characters of one document; configuration is a few kilobytes."""


class DuplicateKeyError(yaml.YAMLError):
    """A key that stands twice in one mapping: YAML itself forbids it, and PyYAML lets the last one win."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping of `node`.

        Raises:
            DuplicateKeyError: naming the key and both of its lines.
        """
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if isinstance(key, Hashable) and key in lines:
                raise DuplicateKeyError(f"'{key}' stands twice, in line {lines[key]} and in line {line}; keep one")
            if isinstance(key, Hashable):
                lines[key] = line
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:  # noqa: ANN401 (whatever YAML holds)
    """Return the content of YAML text.

    Raises:
        yaml.YAMLError: when it is not YAML, has a key twice in one mapping, or is longer than `LARGEST_TEXT`.
    """
    if len(text) > LARGEST_TEXT:
        raise yaml.YAMLError(f"it has {len(text)} characters, expected at most {LARGEST_TEXT}")
    # A loader of its own of the safe kind: it makes plain values and nothing else.
    return yaml.load(text, Loader=_UniqueKeyLoader)


def read_text(path: Path, what: str) -> str:
    """Return the text of a file.

    Raises:
        ContractError: when it is not UTF-8; `what` it is comes first.
        OSError: when it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ContractError(
            f"{what} {path.name}: byte {error.start} is {error.object[error.start]:#04x}, expected UTF-8"
        ) from error
