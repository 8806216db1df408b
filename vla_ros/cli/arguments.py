"""Argument parser and argument types of the command line; an invalid value is rejected with what was expected."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from vla_ros.domain_id import parse_domain_id
from vla_ros.errors import UsageError
from vla_ros.paths import expanded

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?")


class Parser(argparse.ArgumentParser):
    """Parser of one command: help shows defaults and examples, errors are one line."""

    def __init__(self, command: str, description: str, examples: Sequence[str] = ()) -> None:
        """Create the parser of `vla-ros <command>`."""
        epilog = "\n".join(["examples:", *(f"  {example}" for example in examples)]) if examples else None
        super().__init__(
            prog=f"vla-ros {command}", description=description, epilog=epilog, formatter_class=HelpWithDefaults
        )

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with code 2."""
        self.exit(2, f"{self.prog}: {message}; '{self.prog} --help' shows the options\n")


class HelpWithDefaults(argparse.RawDescriptionHelpFormatter):
    """Appends the default to the help of every option that takes a value and does not state it already."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if not action.option_strings or action.nargs == 0 or "default" in text:
            return text
        shown = "none" if action.default in (None, "", [], ()) else "%(default)s"
        return f"{text} (default: {shown})"


def positive_int(word: str) -> int:
    """Return an integer of at least 1."""
    return _whole(word, least=1)


def natural(word: str) -> int:
    """Return an integer of at least 0."""
    return _whole(word, least=0)


def _whole(word: str, least: int) -> int:
    try:
        value = int(word)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"got {word!r}, expected a whole number of at least {least}")
    return value


def positive(word: str) -> float:
    """Return a finite number above 0."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not (value > 0.0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"got {word!r}, expected a finite number of more than 0")
    return value


def execution_mode(word: str) -> str:
    """Return the execution mode of chunks, a value of `Mode`."""
    from vla_ros.policies.execution.settings import Mode

    modes = [mode.value for mode in Mode]
    if word not in modes:
        raise argparse.ArgumentTypeError(f"got {word!r}, expected {', '.join(modes)}")
    return word


def domain(word: str) -> int:
    """Return a DDS domain id."""
    try:
        return parse_domain_id(word, "it")
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def device(word: str) -> str:
    """Return the name of a device for policies; whether it exists is checked on use."""
    if not _DEVICE.fullmatch(word):
        raise argparse.ArgumentTypeError(f"got {word!r}, expected auto, cpu, cuda or cuda:<number>")
    return word


def path(word: str) -> Path:
    """Return a path, with `~` expanded where the shell has not done so."""
    return expanded(word)
