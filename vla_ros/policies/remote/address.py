"""Addresses of policy servers: `openpi://host:port`, and `openpis://host:port` for TLS."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vla_ros.errors import CheckpointError
from vla_ros.paths import expanded

DEFAULT_PORT = 8000
TOKEN_VARIABLE = "VLA_ROS_OPENPI_TOKEN"
"""Default environment variable for the token of clients and of `vla-ros serve`."""

WEBSOCKET_SCHEMES = {"openpi": "ws", "openpis": "wss"}
MAX_TOKEN_LENGTH = 4096


@dataclass(frozen=True)
class Address:
    """Address of a policy server.

    Attributes:
        host: Name or IP address.
        port: TCP port.
        path: Path of the URI, for a server behind a reverse proxy; "" or "/...".
        secure: Whether TLS is used.
    """

    host: str
    port: int
    path: str = ""
    secure: bool = False

    @property
    def uri(self) -> str:
        """The WebSocket URI."""
        return f"{'wss' if self.secure else 'ws'}://{self._place}"

    def __str__(self) -> str:
        return f"{'openpis' if self.secure else 'openpi'}://{self._place}"

    @property
    def _place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{self.path}"


def parse_address(text: str) -> Address:
    """Parse an address of the form `openpi://host[:port][/path]` or `openpis://...`.

    Raises:
        CheckpointError: for anything else, such as a token in the address.
    """
    expected = f"openpi://host[:port], or openpis://host[:port] for TLS; the port is {DEFAULT_PORT} where none is named"
    try:
        parts = urlsplit(text)
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise CheckpointError(f"policy address '{text}': {error}; expected {expected}") from error
    if parts.scheme not in WEBSOCKET_SCHEMES or not parts.hostname or port == 0:
        raise CheckpointError(f"policy address '{text}': expected {expected}")
    if parts.username is not None or parts.query or parts.fragment:
        raise CheckpointError(
            f"policy address of '{parts.hostname}': it holds more than host, port and path. A token comes from the "
            f"environment variable {TOKEN_VARIABLE} or from a file that the policy's YAML names"
        )
    return Address(parts.hostname, port, parts.path.rstrip("/"), parts.scheme == "openpis")


def read_token(file: str = "", variable: str = "", environment: Mapping[str, str] = os.environ) -> str:
    """Return the token from `file` if named, else from environment variable `variable` or `TOKEN_VARIABLE`, or "".

    Raises:
        CheckpointError: when the source named by `file` or `variable` holds no token, or one that cannot be sent.
    """
    if file:
        place = f"token file {file}"
        try:
            token = expanded(file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise CheckpointError(f"{place}: {getattr(error, 'strerror', None) or 'expected ASCII text'}") from error
    else:
        place = f"environment variable {variable or TOKEN_VARIABLE}"
        token = environment.get(variable or TOKEN_VARIABLE, "").strip()
    if not token and (file or variable):
        raise CheckpointError(f"{place}: there is no token in it; the policy's YAML says that there is one")
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise CheckpointError(f"{place}: expected at most {MAX_TOKEN_LENGTH} printable ASCII characters, no space")
    return token


def client_tls(address: Address, ca_file: str = "") -> ssl.SSLContext | None:
    """Return the TLS context of a client, which verifies certificate and host name; None for an address without TLS.

    Args:
        address: Address of the server.
        ca_file: PEM file of the trusted authority; the system's authorities if it is empty.

    Raises:
        CheckpointError: when `ca_file` is unusable.
    """
    if not address.secure:
        if ca_file:
            raise CheckpointError(f"{address}: ca_file is of no use without TLS; write openpis://")
        return None
    path = Path(expanded(ca_file)) if ca_file else None
    try:
        context = ssl.create_default_context(cafile=None if path is None else str(path))
    except (OSError, ssl.SSLError) as error:
        raise CheckpointError(f"ca_file {path}: {error.strerror or error}; expected certificates as PEM") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
