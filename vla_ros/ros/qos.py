"""QoS profiles by topic, from `config/qos.yaml`; a missing name is an error, without a default."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.yaml_files import read_yaml

QOS_FILE = "config/qos.yaml"
MAX_DEPTH = 1000

_RELIABILITY = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
_DURABILITY = {"volatile": DurabilityPolicy.VOLATILE, "transient_local": DurabilityPolicy.TRANSIENT_LOCAL}
_LINES = {"reliability", "durability", "depth"}


@functools.cache
def _table() -> Mapping[str, Any]:
    values = read_yaml(share_file(QOS_FILE), "quality of service")
    if not isinstance(values, dict):
        raise ContractError(f"{QOS_FILE}: expected a mapping of topics")
    return values


def qos(topic: str, table: Mapping[str, Any] | None = None) -> QoSProfile:
    """Return the QoS profile of `topic`, a key of `config/qos.yaml`; history is always KEEP_LAST with `depth`.

    Args:
        topic: Key, e.g. "camera".
        table: Replaces the shipped file.

    Raises:
        ContractError: when the key does not exist, or a line is missing, unknown or out of range.
    """
    table = _table() if table is None else table
    if topic not in table:
        raise ContractError(f"{QOS_FILE} has no '{topic}'; it has {sorted(table)}")
    values = table[topic]
    if not isinstance(values, Mapping) or set(values) != _LINES:
        got = sorted(values) if isinstance(values, Mapping) else values
        raise ContractError(f"{QOS_FILE}: {topic}: has {got}, expected exactly {sorted(_LINES)}")
    depth = values["depth"]
    if type(depth) is not int or not 1 <= depth <= MAX_DEPTH:
        raise ContractError(f"{QOS_FILE}: {topic}: depth is {depth!r}, expected an integer from 1 to {MAX_DEPTH}")
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=_choice(topic, values, "reliability", _RELIABILITY),
        durability=_choice(topic, values, "durability", _DURABILITY),
        liveliness=LivelinessPolicy.AUTOMATIC,  # explicit, so that two endpoints can be compared without a guess
    )


def _choice(topic: str, values: Mapping[str, Any], line: str, choices: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if values[line] not in choices:
        raise ContractError(f"{QOS_FILE}: {topic}: {line} is {values[line]!r}, expected one of {sorted(choices)}")
    return choices[values[line]]
