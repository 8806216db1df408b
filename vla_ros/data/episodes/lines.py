"""Compares recorded settings with the current ones, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def setting_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differing lines of two nested mappings, e.g. "data.steps: 40 then, 60 now".

    Only keys present in both are compared: a setting that an earlier version did not record is no difference. Values
    are compared as JSON, where a tuple is a list.
    """
    before, after = dict(_lines(then)), dict(_lines(now))
    return [
        f"{name}: {before[name]!r} then, {value!r} now"
        for name, value in after.items()
        if name in before and before[name] != value
    ]


def _lines(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in json.loads(json.dumps(values)).items():
        if isinstance(value, dict) and value:
            yield from ((f"{name}.{inner}", one) for inner, one in _lines(value))
        else:
            yield name, value
