"""Access control: a token on any address but loopback, and no requests from other web sites.

A browser lets any web site open WebSockets to any address, including loopback, and names the site in `Origin`. A site
can also make its own host name resolve to this machine (DNS rebinding), which shows in `Host`. Both headers are
checked.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from vla_ros.console.errors import ConsoleError

SHORTEST_TOKEN, LONGEST_TOKEN = 16, 4096
"""Minimum and maximum token length, characters."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Return whether a listening address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def new_token() -> str:
    """Return a new unguessable token."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Access:
    """Access rule of one console.

    Attributes:
        host: Listening address.
        token: Token that every page must send; "" if none is required.
    """

    host: str
    token: str = ""

    def __post_init__(self) -> None:
        """Refuse a console that anyone on the network could command.

        Raises:
            ConsoleError: without a token on an address other than loopback, or with a token that could be guessed.
        """
        if not self.token and not is_loopback(self.host):
            raise ConsoleError(
                f"the console would listen on {self.host} without a token, so that everybody who reaches it could "
                "command the robot: name a file with a token of at least "
                f"{SHORTEST_TOKEN} characters, or listen on 127.0.0.1"
            )
        fits = SHORTEST_TOKEN <= len(self.token) <= LONGEST_TOKEN
        if self.token and not (fits and self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise ConsoleError(
                f"the console's token has {len(self.token)} characters, expected {SHORTEST_TOKEN} to {LONGEST_TOKEN} "
                "printable ASCII characters without a space"
            )

    def admits(self, token: object) -> bool:
        """Return whether a page that sent `token` is admitted."""
        if not self.token:
            return True
        return isinstance(token, str) and hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())

    def refusal(self, host: str, origin: str | None, *, same_port: bool = True) -> str:
        """Return why a request is refused by its `Host` and `Origin` headers; "" if it is admitted.

        Args:
            host: `Host` header: the name the browser connected to, with the port.
            origin: Site of the page that sent it; None for a client that is not a browser.
            same_port: Whether the page must come from this port; False for the port of the emergency stop.
        """
        name = _name(f"//{host}")
        if not self.token and name not in (*LOCAL_NAMES, self.host):
            return (
                f"Host is '{name[:64]}', expected one of {', '.join(LOCAL_NAMES)}: without a token no other name counts"
            )
        if origin is None:
            return ""
        own = name and origin in (f"http://{host}", f"https://{host}") if same_port else name and _name(origin) == name
        return "" if own else f"Origin is '{origin[:64]}', expected the console's own page at {host[:64]}"


def _name(address: str) -> str:
    """Return the host of a URL without the port; "" if it has none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
