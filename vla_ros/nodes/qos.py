"""Quality of service by topic, as `config/qos.yaml` says; a name that is not there is an error, not a default."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import yaml
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.errors import ContractError
from vla_ros.paths import share_file

QOS_FILE = "config/qos.yaml"
MAX_DEPTH = 1000

_RELIABILITY = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
_DURABILITY = {"volatile": DurabilityPolicy.VOLATILE, "transient_local": DurabilityPolicy.TRANSIENT_LOCAL}


@functools.cache
def _table() -> Mapping[str, Any]:
    values = yaml.safe_load(share_file(QOS_FILE).read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ContractError(f"{QOS_FILE}: expected a mapping of topics")
    return values


def qos(topic: str) -> QoSProfile:
    """Return the profile of `topic`, a key of `config/qos.yaml`.

    Raises:
        ContractError: when the key is not there, or a line is missing or unknown.
    """
    table = _table()
    if topic not in table:
        raise ContractError(f"{QOS_FILE} has no '{topic}'; it has {sorted(table)}")
    values = table[topic]
    try:
        reliability, durability = _RELIABILITY[values["reliability"]], _DURABILITY[values["durability"]]
        depth = int(values["depth"])
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(f"{QOS_FILE}: {topic}: missing or unknown {error}") from error
    if not 1 <= depth <= MAX_DEPTH:
        raise ContractError(f"{QOS_FILE}: {topic}: depth is {depth}, expected 1 to {MAX_DEPTH}")
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability
    )
