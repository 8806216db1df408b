"""`vla-ros say "pick up the red cube"`: gives a sentence to a graph that `vla-ros demo --keep-running` left up."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HELP = "give an instruction to a running graph"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("sentence", help='e.g. "pick up the blue ball", or "stop"')
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder where the graph left its graph.json")
    parser.add_argument("--timeout", type=float, default=10.0, help="s to wait for an answer (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Say it; 0 when the graph does it: a task is taken, a stop is heard by the safety layer and the arm is held."""
    from vla_ros.nodes.observer import Observer
    from vla_ros.nodes.operator_client import Operator
    from vla_ros.nodes.runner import STATE_FILE, RosLink
    from vla_ros.nodes.saying import say

    path = args.out / STATE_FILE
    try:
        domain = int(json.loads(path.read_text(encoding="utf-8"))["domain_id"])
    except (OSError, ValueError, KeyError, TypeError):
        print(f"vla-ros say: no running graph: {path} is missing or damaged; start one with "
              "'vla-ros demo --keep-running'", file=sys.stderr)  # fmt: skip
        return 1
    link = RosLink("vla_ros_say", domain)
    try:
        observer = Observer(link.node)
        said = say(Operator(link.node, observer), observer, args.sentence, args.timeout)
    finally:
        link.close()
    for line in said.sentences(args.timeout):
        print(line)
    if args.json:
        print(json.dumps(said.as_dict()))
    return 0 if said.done else 1
