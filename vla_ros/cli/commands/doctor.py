"""`vla-ros doctor`: check this machine for what the demo needs; print how to fix what is missing."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

from vla_ros.cli import probes, shared_memory

HELP = "check that this machine has what the demo needs"

EXAMPLES = (
    "vla-ros doctor",
    "vla-ros doctor --clean-shared-memory",
)

DOMAIN = "ROS domain"
OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        name: What is checked.
        needed: Whether the demo requires it.
        probe: Returns a one-line description, or raises.
    """

    name: str
    needed: bool
    probe: Callable[[], str]


@dataclass(frozen=True)
class Finding:
    """Result of a check. `state` is "ok", "warn" (the demo runs without it) or "FAIL"."""

    name: str
    state: str
    value: str
    advice: str
    seconds: float


CHECKS = (
    Check("Python", True, probes.python),
    Check("compiler", False, probes.compiler),
    Check("libraries", True, probes.libraries),
    Check("OpenGL", True, probes.opengl),
    Check(DOMAIN, True, probes.domain),
    Check("ROS 2", True, probes.ros),
    Check("messages", True, probes.messages),
    Check("shared memory", False, probes.shared_memory),
    Check("left in memory", False, probes.left_in_shared_memory),
    Check("CUDA", False, probes.cuda),
    Check("disk", True, probes.disk),
    Check("checkpoint", True, probes.checkpoint),
)


def examine(checks: Iterable[Check]) -> Iterator[Finding]:
    """Run each check; an unexpected exception in a probe is reported as a finding, too."""
    for check in checks:
        start = time.monotonic()
        state, advice = OK, ""
        try:
            value = check.probe()
        except Exception as error:
            state = FAIL if check.needed else WARN
            value = str(error) if isinstance(error, probes.MissingError) else f"{type(error).__name__}: {error}"
            advice = error.advice if isinstance(error, probes.MissingError) else ""
        yield Finding(check.name, state, value, advice, round(time.monotonic() - start, 2))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--clean-shared-memory",
        action="store_true",
        help="do this alone: remove what your killed "
        "processes left in /dev/shm and no living one uses; best while no graph starts",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Print the table; return 0 if everything the demo needs is present."""
    if args.clean_shared_memory:
        return _clean(args.json)
    width = max(len(check.name) for check in CHECKS)
    findings = []
    for finding in examine(CHECKS):
        findings.append(finding)
        print(f"  {finding.state:<4}  {finding.name:<{width}}  {finding.value}", flush=True)
        if finding.advice:
            print(f"        {'':<{width}}  -> {finding.advice}", flush=True)
    lacking = [finding.name for finding in findings if finding.state == FAIL]
    print(f"\nThe demo lacks: {', '.join(lacking)}." if lacking else "\nEverything the demo needs is here.")
    if args.json:
        print(json.dumps({"ok": not lacking, "checks": [asdict(finding) for finding in findings]}))
    if DOMAIN in lacking:
        return 2  # an invalid environment variable is a usage error, like an invalid option
    return 1 if lacking else 0


def _clean(as_json: bool) -> int:
    """Remove the shared memory of dead processes; return 0 if none of this user's is left."""
    removed = shared_memory.remove_leftovers(shared_memory.FOLDER)
    left = shared_memory.find_leftovers(shared_memory.FOLDER)
    own = len(left.files) - left.foreign
    print(f"removed {len(removed.files)} files, {removed.size / 1e6:.1f} MB, from {shared_memory.FOLDER}")
    if left.foreign:
        print(f"{left.foreign} files of other users remain: have them, or root, remove these")
    if own:
        print(f"{own} files could not be removed: look at {', '.join(map(str, left.files[:3]))}")
    if as_json:
        figures = {"removed": len(removed.files), "bytes": removed.size, "left": len(left.files)}
        print(json.dumps({"ok": not own, **figures}))
    return 1 if own else 0
