"""`vla-ros console`: serve the operator page of a running graph."""

from __future__ import annotations

import argparse
import json
import threading
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import domain, natural, path, positive
from vla_ros.cli.browser import show_page
from vla_ros.cli.commands.say import domain_of_graph
from vla_ros.cli.commands.serve import HIGHEST_PORT, tls_of
from vla_ros.errors import ContractError, UsageError

if TYPE_CHECKING:
    from vla_ros.console.server import ConsoleOptions

HELP = "show and command a running graph in a browser"

EXAMPLES = (
    "vla-ros console --open",
    "vla-ros console --view-only",
    "vla-ros console --host 0.0.0.0 --page-timeout 2",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all of this machine, with a token"
    )
    parser.add_argument(
        "--port", type=natural, default=8060, help="of the page; the emergency stop has the next one. 0: two free ones"
    )
    parser.add_argument(
        "--token-file",
        default="",
        help="file with the token that pages must send (default: a new "
        "one on every address but this machine's own; the address that is printed has it)",
    )
    parser.add_argument("--certificate", type=path, help="PEM file, for TLS: https")
    parser.add_argument("--key", type=path, help="PEM file of the certificate's private key")
    parser.add_argument(
        "--page-timeout",
        type=positive,
        default=0.0,
        help="s: the page in command is a dead man's "
        "switch, its loss or silence of that time an emergency stop (default: its loss stops "
        "nothing)",
    )
    parser.add_argument("--view-only", action="store_true", help="no page commands, and there is no emergency stop")
    parser.add_argument("--record", type=path, help="folder: episodes can be recorded to it from the page")
    parser.add_argument("--robot", default="panda", help="robot contract: a name or a YAML file")
    parser.add_argument("--domain", type=domain, help="ROS domain id (default: that of the running graph)")
    parser.add_argument(
        "--out",
        type=path,
        help="folder where the graph left its graph.json (default: runs/, or "
        "that of the only graph of yours on this machine)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in this machine's browser")
    parser.add_argument("--json", action="store_true", help="print where it is as one JSON object on one line")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, then return 0.

    Raises:
        UsageError: when an option names something that does not exist, or would allow anyone to connect.
    """
    from vla_ros.bringup.runner import RosLink
    from vla_ros.console.errors import ConsoleError
    from vla_ros.nodes.console.console import Console
    from vla_ros.robot.contract import load_contract

    try:
        contract, options = load_contract(args.robot), _options(args)
    except (ContractError, ConsoleError) as error:
        raise UsageError(str(error)) from error
    link = RosLink("vla_ros_console", domain_of_graph(args.out) if args.domain is None else args.domain)
    try:
        console = Console(link.node, contract, options, page_timeout=args.page_timeout, recordings=args.record)
        try:
            _tell(args, console.address)
            if args.open:
                show_page(console.address)
            threading.Event().wait()  # a signal ends the wait by raising KeyboardInterrupt
        except KeyboardInterrupt:
            return 0
        finally:
            console.close()
    finally:
        link.close()
    return 0


def _options(args: argparse.Namespace) -> ConsoleOptions:
    from vla_ros.console.access import is_loopback, new_token
    from vla_ros.console.server import ConsoleOptions
    from vla_ros.nodes.console.console import read_token

    if args.port >= HIGHEST_PORT:
        raise UsageError(f"--port {args.port}: expected less than {HIGHEST_PORT}")
    token = read_token(args.token_file) or ("" if is_loopback(args.host) else new_token())
    return ConsoleOptions(args.host, args.port, token, tls_of(args.certificate, args.key), args.view_only)


def _tell(args: argparse.Namespace, address: str) -> None:
    if args.json:
        print(json.dumps({"address": address}), flush=True)
        return
    print(f"the operator's page is at {address}", flush=True)
    if not args.view_only:
        print("Ctrl-C ends it. Its emergency stop button then disappears, which stops the robot: reset it (/vla/reset)")
