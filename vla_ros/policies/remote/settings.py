"""Parses the settings of a policy file of kind `openpi`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_ros.errors import ContractError
from vla_ros.policies.remote.address import parse_address
from vla_ros.policies.remote.features import RemoteFeatures, check_lines
from vla_ros.policies.remote.openpi import TIMEOUT, OpenpiSettings

_TEXTS = ("token_file", "token_env", "ca_file")
_FEATURES = ("observation", "action")


def read_settings(values: Mapping[str, Any]) -> OpenpiSettings:
    """Parse the settings of a policy file.

    Raises:
        ContractError: when a key is missing, unknown or invalid.
        CheckpointError: when the address is invalid.
    """
    check_lines(values, "kind openpi", ("kind", "address"), ("timeout", *_TEXTS, *_FEATURES, "robot"))
    present = [line for line in (*_FEATURES, "robot") if line in values]
    if present and not all(line in values for line in _FEATURES):
        raise ContractError(f"got {present}, expected observation and action, or neither: the server says it then")
    timeout = values.get("timeout", TIMEOUT)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ContractError(f"timeout is {timeout!r}, expected seconds")
    for line in ("address", *_TEXTS):
        if not isinstance(values.get(line, ""), str):
            raise ContractError(f"{line} is {values[line]!r}, expected text")
    return OpenpiSettings(
        address=parse_address(values["address"]),
        features=RemoteFeatures.from_dict(values) if present else None,
        timeout=float(timeout),
        **{line: values.get(line, "") for line in _TEXTS},
    )
