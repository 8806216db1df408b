"""DDS domain ids (`ROS_DOMAIN_ID`, `--domain`): parsing and range."""

from __future__ import annotations

import os
from collections.abc import Mapping

from vla_ros.errors import UsageError

LARGEST = 232
"""Largest domain id: by RTPS 9.6.1 the ports of domain d begin at 7400 + 250 d; those of 233 would exceed 65535."""

VARIABLE = "ROS_DOMAIN_ID"


def parse_domain_id(word: str, source: str) -> int:
    """Parse a domain id; `source` names its origin in errors.

    Raises:
        UsageError: when it is not an integer from 0 to `LARGEST`.
    """
    if not (word.isascii() and word.isdecimal() and int(word) <= LARGEST):
        raise UsageError(f"{source} is {word!r}, expected 0 to {LARGEST}")
    return int(word)


def domain_id_of_shell(environment: Mapping[str, str] = os.environ) -> int:
    """Return `ROS_DOMAIN_ID`; 0 if it is unset, as in ROS 2.

    Raises:
        UsageError: when it is not a domain id.
    """
    return parse_domain_id(environment.get(VARIABLE) or "0", VARIABLE)
