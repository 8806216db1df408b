"""`vla-ros say "pick up the red cube"`: gives a sentence to a graph that `vla-ros demo --keep-running` left up."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vla_ros.errors import VlaError

PRESENT_TASK = 1.5  # s to hear of the task that the graph has now
HELP = "give an instruction to a running graph"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("sentence", help='e.g. "pick up the blue ball", or "stop"')
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder where the graph left its graph.json")
    parser.add_argument("--timeout", type=float, default=10.0, help="s to wait for an answer (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Say it; 0 when the graph took it."""
    from vla_ros.nodes.observer import Observer
    from vla_ros.nodes.operator_client import Operator
    from vla_ros.nodes.runner import STATE_FILE, RosLink

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
        # The task that the graph has now comes first, if there is one: it must not be taken for the answer.
        observer.wait(lambda: observer.instruction.sequence > 0, min(PRESENT_TASK, args.timeout))
        number = Operator(link.node, observer).say(args.sentence, args.timeout)
    except VlaError as error:
        print(f"refused: {error}")
        answer, number = False, None
    else:
        print(f"accepted as instruction {number}")
        answer = True
    finally:
        link.close()
    if args.json:
        print(json.dumps({"accepted": answer, "instruction": number}))
    return 0 if answer else 1
