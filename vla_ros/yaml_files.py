"""Safe YAML reader: bounded size, no duplicate keys, and errors that name the place.

A text is first composed into nodes, which are checked before any values are constructed. Aliases are followed at every
use, so that the expansion of a few nested aliases counts in full.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from vla_ros.errors import ContractError

LARGEST_TEXT = 1 << 20
"""Largest number of characters in a document; configuration is a few kilobytes."""

DEEPEST = 32
"""Largest nesting depth of collections; configuration has about six."""

MOST_NODES = 100_000
"""Largest number of values, keys and collections in a document after alias expansion."""

_MERGE = "tag:yaml.org,2002:merge"
_COLLECTIONS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


class YamlContentError(yaml.YAMLError):
    """Unusable content, with the line and the path of its key."""

    def __init__(self, sentence: str, node: yaml.Node, path: str) -> None:
        """Describe the fault at a node, whose key path is `path`."""
        super().__init__(f"line {node.start_mark.line + 1}, {path or 'top level'}: {sentence}")


class DuplicateKeyError(YamlContentError):
    """A duplicate key in a mapping; PyYAML would silently use the last one."""


class _Loader(yaml.SafeLoader):
    """Composes at most `DEEPEST` levels, and checks the nodes before constructing plain values."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401 (as PyYAML has it)
        """Return the next node; PyYAML recurses per level, and Python bounds the recursion."""
        self._depth += 1
        try:
            if self._depth > DEEPEST:
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.YAMLError(f"line {mark.line + 1}: more than {DEEPEST} collections inside of each other")
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def get_single_node(self) -> yaml.Node | None:
        """Return the checked root of the document."""
        root = super().get_single_node()
        if root is not None:
            self._left = MOST_NODES
            self._look(root, "", ())
        return root

    def _look(self, node: yaml.Node, path: str, around: tuple[yaml.Node, ...]) -> None:
        """Check a node and everything below it; `around` are the enclosing collections."""
        self._left -= 1
        if self._left < 0:
            raise YamlContentError(f"more than {MOST_NODES} values; are aliases of aliases nested?", node, path)
        if node in around:
            raise YamlContentError("it contains itself, by an alias", node, path)
        if len(around) > DEEPEST:
            raise YamlContentError(f"more than {DEEPEST} collections inside of each other, by aliases", node, path)
        if isinstance(node, yaml.ScalarNode):
            self._make(node, path)
        elif node.tag not in _COLLECTIONS:
            raise YamlContentError(f"a collection of the kind '{node.tag}', expected a list or a mapping", node, path)
        elif isinstance(node, yaml.SequenceNode):
            for place, item in enumerate(node.value):
                self._look(item, f"{path}[{place}]", (*around, node))
        elif isinstance(node, yaml.MappingNode):
            self._look_at_mapping(node, path, (*around, node))

    def _look_at_mapping(self, node: yaml.MappingNode, path: str, around: tuple[yaml.Node, ...]) -> None:
        lines: dict[Hashable, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlContentError("a key is a list or a mapping, expected a plain one", key_node, path)
            below = f"{path}.{key_node.value}" if path else str(key_node.value)
            if key_node.tag == _MERGE:
                merged = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                if not all(isinstance(one, yaml.MappingNode) for one in merged):
                    raise YamlContentError("expected a mapping, or a list of mappings, to merge", value_node, below)
            else:
                key, line = self._make(key_node, below), key_node.start_mark.line + 1
                if key in lines:
                    sentence = f"'{key}' stands twice, in line {lines[key]} and in line {line}; keep one"
                    raise DuplicateKeyError(sentence, key_node, path)
                lines[key] = line
            self._left -= 1
            self._look(value_node, below, around)

    def _make(self, node: yaml.ScalarNode, path: str) -> Any:  # noqa: ANN401 (whatever YAML holds)
        """Construct the value of a scalar."""
        try:
            return self.construct_object(node)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or str(error)
            raise YamlContentError(str(problem), node, path) from error
        except Exception as error:  # PyYAML passes on Python's errors, as for an invalid date or number
            what = node.tag.rpartition(":")[2]
            raise YamlContentError(f"{node.value[:80]!r} is no {what}", node, path) from error


def parse_yaml(text: str) -> Any:  # noqa: ANN401 (whatever YAML holds)
    """Parse YAML text.

    Raises:
        yaml.YAMLError: when it is not YAML, is longer than `LARGEST_TEXT`, deeper than `DEEPEST` or has more than
            `MOST_NODES` values, has a duplicate key, a collection that contains itself, or a value invalid for its
            type; with the line, and the path of the key where there is one.
    """
    if len(text) > LARGEST_TEXT:
        raise yaml.YAMLError(f"it has {len(text)} characters, expected at most {LARGEST_TEXT}")
    try:
        # A subclass of the safe loader: it constructs plain values and nothing else.
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, MemoryError):
        raise
    except Exception as error:  # any error that PyYAML did not expect: the text is at fault
        raise yaml.YAMLError(f"it cannot be read: {type(error).__name__}: {error}") from error


def read_yaml(path: Path, what: str) -> Any:  # noqa: ANN401
    """Read a YAML file.

    Raises:
        ContractError: when it is unusable, see `parse_yaml`; the message starts with `what` and the file name.
        OSError: when it cannot be read.
    """
    text = read_text(path, what)
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise ContractError(f"{what} {path.name}: {why_unusable(error)}") from error


def why_unusable(error: yaml.YAMLError) -> str:
    """Explain why `parse_yaml` rejected a text; "not YAML" only for wrong syntax."""
    wrong_syntax = isinstance(error, (yaml.MarkedYAMLError, yaml.reader.ReaderError))
    return f"not YAML: {error}" if wrong_syntax else str(error)


def read_text(path: Path, what: str) -> str:
    """Read a UTF-8 text file.

    Raises:
        ContractError: when it is not UTF-8; the message starts with `what` and the file name.
        OSError: when it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ContractError(
            f"{what} {path.name}: byte {error.start} is {error.object[error.start]:#04x}, expected UTF-8"
        ) from error
