"""The help of each command shows every default and examples that work; so do the commands that documents name."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from vla_ros.cli.arguments import Parser
from vla_ros.cli.main import present_commands

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def parser(name: str) -> Parser:
    module = importlib.import_module(f"vla_ros.cli.commands.{name}")
    made = Parser(name, module.HELP, module.EXAMPLES)
    module.add_arguments(made)
    return made


def options() -> list[tuple[str, argparse.Action]]:
    return [(name, action) for name in present_commands() for action in parser(name)._actions]


@pytest.mark.parametrize(("name", "action"), [pytest.param(n, a, id=f"{n} {a.dest}") for n, a in options()])
def test_every_option_has_help_and_tells_its_default(name, action):
    text = parser(name)._get_formatter()._get_help_string(action)
    assert text
    if action.option_strings and action.nargs != 0:
        assert "default" in text


@pytest.mark.parametrize("name", present_commands())
def test_examples_are_shown_and_are_taken(name):
    made = parser(name)
    examples = importlib.import_module(f"vla_ros.cli.commands.{name}").EXAMPLES
    assert examples
    for example in examples:
        assert f"  {example}\n" in made.format_help()
        words = shlex.split(example)
        assert words[:2] == ["vla-ros", name]
        made.parse_args(words[2:])


def documented() -> list[str]:
    """Return every command that a document names, as it stands there: in code blocks and between back quotes."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"```.*?\n(.*?)```", text, re.DOTALL)
        inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        lines = [line.strip() for block in blocks for line in block.splitlines()]
        found += [line for line in [*lines, *inline] if line.startswith("vla-ros ")]
    return sorted({" ".join(line.split()) for line in found})


@pytest.mark.parametrize("line", documented())
def test_commands_that_documents_name_are_taken(line):
    words = shlex.split(line.replace("<name>", "pick").replace(" ...", ""), comments=True)[1:]
    words = ["10" if word in ("N", "S") else word for word in words]
    assert words[0] in present_commands() or words[0].startswith("-")
    if words[1:] or words[0] in ("doctor", "demo", "selftest", "models", "train", "eval", "collect", "record"):
        parser(words[0]).parse_args(words[1:])


def test_documents_name_commands():
    assert len(documented()) > 40
