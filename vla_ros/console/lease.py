"""Who commands: one page at a time, until it gives the command back or its connection is lost."""

from __future__ import annotations


class CommandLease:
    """Belongs to one connection, by its number. Used by one thread.

    Attributes:
        holder: Number of the page that commands; None when nobody does.
    """

    def __init__(self) -> None:
        """Begin with nobody in command."""
        self.holder: int | None = None

    def take(self, page: int) -> bool:
        """Give the command to `page`; False while another one has it."""
        if self.holder is None:
            self.holder = page
        return self.holder == page

    def release(self, page: int) -> bool:
        """Take the command from `page`; False when it does not have it."""
        if self.holder != page:
            return False
        self.holder = None
        return True
