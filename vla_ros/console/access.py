"""Who is let in: a token for every address but this machine's own, and no page of somebody else's web site.

A browser lets any web site open WebSockets to any address, this machine's own among them, and says in `Origin` which
site it was. A site can also give its own name this machine's address, which `Host` shows. Both are looked at.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from vla_ros.console.errors import ConsoleError

SHORTEST_TOKEN, LONGEST_TOKEN = 16, 4096
"""Characters of a token."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Access:
    """The rule for one console.

    Attributes:
        host: Address that it listens on.
        token: What every page must send; "" where none is needed.
    """

    host: str
    token: str = ""

    def __post_init__(self) -> None:
        """Refuse a console that everybody on the network could command.

        Raises:
            ConsoleError: without a token on another address than this machine's own, or with one that can be guessed.
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
        """Say whether a page that sent `token` may come in."""
        if not self.token:
            return True
        return isinstance(token, str) and hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())

    def refusal(self, host: str, origin: str | None, *, same_port: bool = True) -> str:
        """Return why a request may not come in by its headers `Host` and `Origin`; "" when it may.

        Args:
            host: Who the browser thinks it speaks to, with the port.
            origin: Site whose page sent it; None for a program that is no browser.
            same_port: The page comes from this very port; False for the port of the emergency stop.
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
    """Return the host of a URL without the port; "" when it has none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
