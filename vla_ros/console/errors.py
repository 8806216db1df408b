"""Errors of the operator console."""

from __future__ import annotations

from vla_ros.errors import VlaError


class ConsoleError(VlaError):
    """The console cannot listen where it was told to, or would let everybody in."""


class RequestError(VlaError):
    """A page has sent what the console does not understand, or may not do it."""
