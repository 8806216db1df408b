"""Writes requirements/transitive.txt: the version of every transitive requirement, for every Python.

Run it after a change of a pin, with the interpreters of environments made from the new pins, one for each supported
Python:

    python scripts/lock_requirements.py /some/3.10/.venv/bin/python /some/3.11/.venv/bin/python ...
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
OUTPUT = FOLDER / "transitive.txt"
HEADER = """\
# What the other requirements pull in; setup_environment.py gives it to pip as constraints.
# Written by scripts/lock_requirements.py.
"""
# Some ROS 2 wheels also contain the metadata of their sources, as egg-info: those are not separate distributions.
QUESTION = """
import json, platform
from importlib.metadata import distributions
found = {d.metadata["Name"]: d.version for d in distributions() if d.locate_file("") and d.read_text("WHEEL")}
print(json.dumps([platform.python_version_tuple()[1], found]))
"""


def normalized(name: str) -> str:
    """Return the name in the normalized form of package indexes."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(python: str) -> tuple[int, dict[str, str]]:
    """Return the minor version of an interpreter, and the versions of its installed packages by name."""
    answer = subprocess.run([python, "-c", QUESTION], capture_output=True, text=True, check=True)
    minor, found = json.loads(answer.stdout)
    return int(minor), {normalized(name): version for name, version in found.items()}


def direct_names() -> set[str]:
    """Return the names pinned by the hand-written files."""
    lines = [line for file in FOLDER.glob("*.txt") if file != OUTPUT for line in file.read_text().splitlines()]
    return {normalized(re.split(r"[=\[]", line)[0]) for line in lines if line and not line.startswith("#")}


def marker(having: list[int], minors: list[int]) -> str:
    """Return the environment marker for the Pythons in `having`, which are consecutive in `minors`."""
    after = [minor for minor in minors if minor > having[-1]]
    bounds = [f'python_version >= "3.{having[0]}"'] if having[0] != minors[0] else []
    bounds += [f'python_version < "3.{after[0]}"'] if after else []
    return f"; {' and '.join(bounds)}" if bounds else ""


def lock(environments: dict[int, dict[str, str]]) -> list[str]:
    """Return one line per name and version; `environments` maps minor versions to versions by name."""
    minors = sorted(environments)
    skipped = direct_names() | {"pip", "vla-ros"}
    lines = []
    for name in sorted(set().union(*environments.values()) - skipped):
        versions = {environments[minor].get(name) for minor in minors} - {None}
        for version in sorted(map(str, versions)):
            having = [minor for minor in minors if environments[minor].get(name) == version]
            lines.append(f"{name}=={version}{marker(having, minors)}")
    return lines


if __name__ == "__main__":
    OUTPUT.write_text(HEADER + "\n".join(lock(dict(map(installed, sys.argv[1:])))) + "\n", encoding="utf-8")
