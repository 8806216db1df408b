"""`vla-ros serve`: serve a policy to other machines and programs by openpi's protocol; needs no ROS."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import logging
import signal
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import device, natural, path, positive, positive_int
from vla_ros.errors import CheckpointError, ContractError, UsageError

if TYPE_CHECKING:
    from vla_ros.policies.serving.server import PolicyServer

HELP = "serve a policy to other machines by openpi's protocol"

EXAMPLES = (
    "vla-ros serve checkpoints/pick",
    "vla-ros serve checkpoints/pick --host 0.0.0.0 --token-file ~/token --certificate cert.pem --key key.pem",
    "vla-ros serve my_package.policy:MyPolicy --robot ur5e --port 9000",
)

HIGHEST_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("policy", help="folder, policy file, or module:Class")
    parser.add_argument("--robot", default="panda", help="robot contract that it acts for: a name or a YAML file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all of this machine")
    parser.add_argument("--port", type=natural, default=8000, help="0: a free one")
    parser.add_argument(
        "--token-file",
        type=path,
        help="file with the token that clients must send (default: the environment variable VLA_ROS_OPENPI_TOKEN)",
    )
    parser.add_argument(
        "--without-token",
        action="store_true",
        help="listen on the network without a token: anyone who reaches the port can use the policy",
    )
    parser.add_argument("--certificate", type=path, help="PEM file, for TLS: clients name openpis://")
    parser.add_argument("--key", type=path, help="PEM file of the certificate's private key")
    parser.add_argument("--clients", type=positive_int, default=16, help="most clients at a time")
    parser.add_argument("--queue", type=natural, default=8, help="most requests that wait for their turn")
    parser.add_argument("--timeout", type=positive, default=60.0, help="s for one inference")
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32", help="of the network")
    parser.add_argument("--json", action="store_true", help="print where it listens as one JSON object on one line")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; return 0.

    Raises:
        UsageError: when an option names something that does not exist, or would allow anyone to connect.
    """
    from vla_ros.policies.build import commanded_by, load_policy
    from vla_ros.policies.protocol import close_policy
    from vla_ros.policies.registry import find_policy
    from vla_ros.policies.remote.address import read_token
    from vla_ros.policies.serving.server import PolicyServer, ServeOptions
    from vla_ros.robot.contract import load_contract

    if args.port > HIGHEST_PORT:
        raise UsageError(f"--port {args.port}: expected at most {HIGHEST_PORT}")
    try:
        contract = load_contract(args.robot)
        if find_policy(args.policy).kind == "openpi":
            raise UsageError(f"{args.policy} is a server already; give its clients its own address")
        contract = commanded_by(args.policy, contract)
        token = read_token(str(args.token_file or ""))
    except (ContractError, CheckpointError) as error:
        raise UsageError(str(error)) from error
    if not token and not args.without_token and not _is_loopback(args.host):
        raise UsageError(
            f"--host {args.host} is open to the network: name a --token-file, or say --without-token where everybody "
            "who reaches the port may use the policy"
        )
    options = ServeOptions(
        args.host, args.port, token, tls_of(args.certificate, args.key), args.clients, args.queue, args.timeout
    )
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # aborted handshakes are not worth a log line
    policy = load_policy(args.policy, contract, args.device, args.precision)
    try:
        asyncio.run(_serve(PolicyServer(policy, contract, options), args))
    finally:
        close_policy(policy)
    return 0


async def _serve(server: PolicyServer, args: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def started(port: int) -> None:
        scheme = "openpis" if args.certificate else "openpi"
        host = f"[{args.host}]" if ":" in args.host else args.host
        address = f"{scheme}://{host}:{port}"
        if args.json:
            print(json.dumps({"policy": args.policy, "robot": args.robot, "address": address}), flush=True)
        else:
            print(f"serving {args.policy} for robot {args.robot} at {address}; Ctrl-C ends it", flush=True)

    await server.run(stop, started)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_of(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return the TLS context of a server; None if neither file is given.

    Args:
        certificate: PEM file.
        key: PEM file of its private key.

    Raises:
        UsageError: when only one is given, or they cannot be used.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("TLS needs both --certificate and --key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--certificate {certificate}, --key {key}: {error.strerror or error}") from error
    return context
