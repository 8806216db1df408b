"""The operator's page in the browser of this machine."""

from __future__ import annotations

import os
import sys
import webbrowser


def require_console() -> None:
    """Raise ImportError, which says how to install it, where the web server of the console is missing."""
    import aiohttp  # noqa: F401


def show_page(address: str) -> str:
    """Open `address` where there is a desktop, and return it; a browser of a terminal would take that over."""
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
    return address
