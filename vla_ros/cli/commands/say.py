"""`vla-ros say "pick up the red cube"`: give an instruction to a graph left up by `vla-ros demo --keep-running`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from vla_ros.cli.arguments import domain, path, positive
from vla_ros.domain_id import VARIABLE, domain_id_of_shell
from vla_ros.errors import VlaError

HELP = "give an instruction to a running graph"

EXAMPLES = (
    'vla-ros say "pick up the blue ball"',
    "vla-ros say stop",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("sentence", help='e.g. "pick up the blue ball", or "stop"')
    parser.add_argument(
        "--out",
        type=path,
        help="folder where the graph left its graph.json (default: runs/, or "
        "that of the only graph of yours on this machine)",
    )
    parser.add_argument(
        "--domain",
        type=domain,
        help="ROS domain id of the graph (default: that of --out; where no demo runs on this machine, ROS_DOMAIN_ID)",
    )
    parser.add_argument("--timeout", type=positive, default=10.0, help="s to wait for an answer (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Publish the instruction; return 0 if the task is accepted, or the stop received and the arm held."""
    from vla_ros.bringup.runner import RosLink
    from vla_ros.client.observer import Observer
    from vla_ros.client.operator_client import Operator
    from vla_ros.client.saying import say

    link = RosLink("vla_ros_say", domain_of_graph(args.out) if args.domain is None else args.domain)
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


def domain_of_graph(out: Path | None) -> int:
    """Return the DDS domain of the graph to instruct: that in `out`, else in runs/, else the only running one.

    Those are graphs of the demo, each in its own domain. Without any, the domain is ROS_DOMAIN_ID, if set: that of a
    graph started by `ros2 launch`.

    Raises:
        VlaError: when there is no graph, or more than one.
    """
    from vla_ros.bringup.runner import STATE_FILE
    from vla_ros.bringup.running_graphs import running_graphs, runs

    start = "start one with 'vla-ros demo --keep-running'"
    default = Path("runs")
    if out is not None or runs(default):
        state = (out or default) / STATE_FILE
        try:
            return int(json.loads(state.read_text(encoding="utf-8"))["domain_id"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise VlaError(f"no running graph: {state} is missing or damaged; {start}") from error
    graphs = running_graphs()
    if not graphs and os.environ.get(VARIABLE):
        return domain_id_of_shell()
    if not graphs:
        raise VlaError(
            f"no running graph of yours on this machine; {start}, or name the domain of another with --domain"
        )
    if len(graphs) > 1:
        folders = ", ".join(graph.folder for graph in graphs)
        raise VlaError(f"{len(graphs)} graphs run on this machine, in {folders}; say which with --out")
    return graphs[0].domain_id
