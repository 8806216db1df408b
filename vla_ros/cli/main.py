"""The `vla-ros` command: finds the module of a command, and imports no other."""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.metadata
import io
import json
import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

from vla_ros.cli.arguments import Parser
from vla_ros.cli.failures import EXPECTED, explain, require_working_folder
from vla_ros.cli.interrupts import interrupt_on_signals
from vla_ros.cli.shadowing import require_own_libraries
from vla_ros.errors import UsageError
from vla_ros.paths import share_roots

FAILED, USAGE_ERROR = 1, 2

COMMANDS = (
    "doctor",
    "demo",
    "say",
    "console",
    "explain",
    "robot",
    "selftest",
    "check",
    "eval",
    "collect",
    "record",
    "train",
    "models",
    "serve",
    "bench",
)
"""Commands in the order of `vla-ros --help`; each is a module of `vla_ros.cli.commands`."""


def help_line(command: str) -> str:
    """Return the HELP of a command without importing it: some import torch, and `--help` should be quick."""
    source = _module_file(command).read_text(encoding="utf-8")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "HELP":
            return str(ast.literal_eval(statement.value))
    raise ValueError(f"vla_ros.cli.commands.{command} has no HELP = '...' line")


def present_commands() -> list[str]:
    """Return the commands whose module exists."""
    return [name for name in COMMANDS if _module_file(name).exists()]


def _module_file(command: str) -> Path:
    return Path(__file__).with_name("commands") / f"{command}.py"


def overview() -> str:
    """Return the text of `vla-ros --help`."""
    names = present_commands()
    width = max(map(len, names))
    return "\n".join(
        [
            "usage: vla-ros <command> [options]",
            "",
            "Runs Vision-Language-Action policies on a robot arm, behind a safety layer.",
            "",
            "commands:",
            *(f"  {name:<{width}}  {help_line(name)}" for name in names),
            "",
            "'vla-ros <command> --help' shows its options with their defaults, and examples; --version: the version.",
            "Exit code: 0 done, 1 not done, 2 wrong usage.",
        ]
    )


def version() -> str:
    """Return the version of the package, from its manifest or, if pip installed it, from its metadata."""
    for root in share_roots():
        if (manifest := root / "package.xml").is_file():
            return str(ElementTree.parse(manifest).getroot().findtext("version"))
    return importlib.metadata.version("vla_ros")


def unknown(name: str) -> str:
    """Return the error message for an unknown command."""
    names = present_commands()
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"choose one of: {', '.join(names)}"
    return f"vla-ros: there is no command '{name}'; {hint}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments after `vla-ros`; those of the process if None.

    Returns:
        Exit code: 0 done, 1 not done, 2 wrong usage.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for locales that lack a character
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        print(overview(), file=sys.stderr)
        return USAGE_ERROR
    name, *rest = words
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name in ("-V", "--version"):
        print(f"vla-ros {version()}")
        return 0
    if name not in present_commands():
        print(unknown(name), file=sys.stderr)
        return USAGE_ERROR
    arguments: argparse.Namespace | None = None
    try:
        require_working_folder()
        module = import_module(f"vla_ros.cli.commands.{name}")
        parser = Parser(name, module.HELP, getattr(module, "EXAMPLES", ()))
        module.add_arguments(parser)
        try:
            arguments = parser.parse_args([decoded(word) for word in rest])
        except SystemExit as stop:  # argparse has printed its message: 0 after --help, 2 after a usage error
            return stop.code if isinstance(stop.code, int) else USAGE_ERROR
        if threading.current_thread() is threading.main_thread():
            interrupt_on_signals()
        if name != "doctor":  # doctor runs this check itself
            require_own_libraries()
        return int(module.run(arguments))
    except BrokenPipeError:  # the reading end of the pipe was closed: `vla-ros ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except EXPECTED as error:
        return _fail(name, arguments, explain(error), USAGE_ERROR if isinstance(error, UsageError) else FAILED)
    except KeyboardInterrupt:
        return _fail(name, arguments, "interrupted", FAILED)


def _fail(name: str, arguments: argparse.Namespace | None, sentence: str, code: int) -> int:
    """Report why a command has ended, to people and, with --json, to programs; return `code`."""
    print(f"vla-ros {name}: {sentence}", file=sys.stderr)
    if getattr(arguments, "json", False):
        print(json.dumps({"ok": False, "error": sentence}), flush=True)
    return code


def decoded(word: str) -> str:
    """Decode a command-line argument, whatever the locale: terminals send UTF-8.

    Raises:
        UsageError: when it is not UTF-8.
    """
    try:
        return os.fsencode(word).decode("utf-8")
    except UnicodeError as error:
        raise UsageError(f"{word!a} is not UTF-8: type it in a terminal whose encoding is UTF-8") from error


if __name__ == "__main__":
    sys.exit(main())
