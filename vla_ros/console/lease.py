"""Command lease: one page commands at a time, until it gives up command or its connection is lost."""

from __future__ import annotations


class CommandLease:
    """Lease held by one connection, identified by its number. Not thread-safe.

    Attributes:
        holder: Number of the page in command; None if there is none.
    """

    def __init__(self) -> None:
        """Begin with no page in command."""
        self.holder: int | None = None

    def take(self, page: int) -> bool:
        """Give `page` command; return False while another page has it."""
        if self.holder is None:
            self.holder = page
        return self.holder == page

    def release(self, page: int) -> bool:
        """End the lease of `page`; return False if it is not in command."""
        if self.holder != page:
            return False
        self.holder = None
        return True
