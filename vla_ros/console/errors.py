"""Errors of the operator console."""

from __future__ import annotations

from vla_ros.errors import VlaError


class ConsoleError(VlaError):
    """The console cannot listen on the given address, or would allow anyone to connect."""


class RequestError(VlaError):
    """A page has sent a request that is invalid or that it is not allowed to make."""
