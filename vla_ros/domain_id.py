"""DDS domain ids (`ROS_DOMAIN_ID`, `--domain`): their range."""

from __future__ import annotations

import os
from collections.abc import Mapping

from vla_ros.errors import UsageError

LARGEST = 232
"""RTPS 9.6.1: the ports of domain d begin at 7400 + 250 d, and those of 233 would be above 65535."""

VARIABLE = "ROS_DOMAIN_ID"


def parse_domain_id(word: str, source: str) -> int:
    """Return the domain id that `word` is; `source` is where it was given.

    Raises:
        UsageError: when it is no whole number from 0 to `LARGEST`.
    """
    if not (word.isascii() and word.isdecimal() and int(word) <= LARGEST):
        raise UsageError(f"{source} is {word!r}, expected 0 to {LARGEST}")
    return int(word)


def domain_id_of_shell(environment: Mapping[str, str] = os.environ) -> int:
    """Return `ROS_DOMAIN_ID`; 0 where it is not set, as ROS 2 has it.

    Raises:
        UsageError: when it is no domain id.
    """
    return parse_domain_id(environment.get(VARIABLE) or "0", VARIABLE)
