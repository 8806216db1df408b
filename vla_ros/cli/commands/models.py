"""`vla-ros models`: compare the networks by purpose, size, speed and memory on this machine."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import device, natural, path, positive
from vla_ros.errors import UsageError
from vla_ros.naming import expected_names

if TYPE_CHECKING:
    from vla_ros.models.measurement.measure import Figures

HELP = "compare the networks: what each is for, and its size, speed and memory here"

EXAMPLES = (
    "vla-ros models",
    "vla-ros models flow diffusion --json",
    "vla-ros models real_time --size full",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="*", help="which networks (default: all)")
    parser.add_argument(
        "--size",
        default="tiny",
        choices=["tiny", "base", "full"],
        help="tiny: what trains on a CPU; full: gigabytes, and slow on a CPU",
    )
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, auto")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16 or fp16, of weights and inputs")
    parser.add_argument("--threads", type=natural, default=0, help="threads on the CPU (0: one a core)")
    parser.add_argument("--seconds", type=positive, default=1.0, help="time to spend on each figure")
    parser.add_argument(
        "--seed", type=natural, default=0, help="of the random weights (the figures hardly depend on it)"
    )
    parser.add_argument("--no-train", action="store_true", help="leave out the training step")
    parser.add_argument("--markdown", action="store_true", help="print the figures as a Markdown table")
    parser.add_argument(
        "--into",
        type=path,
        help="write the tables into this document, between its marks "
        "'<!-- guide -->' or '<!-- figures SIZE DEVICE -->' and '<!-- end -->'",
    )
    parser.add_argument("--picture", type=path, help="draw speed and memory to this PNG")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Measure and print; return 0 if every requested network was measured."""
    from vla_ros.models.measurement.guide import GUIDES

    for name in args.names:
        if name not in GUIDES:
            raise UsageError(f"there is no network '{name}'; {expected_names(name, GUIDES)}")
    figures, failures, machine = _measure(args, args.names or list(GUIDES))
    _show(args, figures, failures, machine)
    for name, reason in failures.items():
        print(f"{name}: not measured: {reason}", file=sys.stderr)
    if args.json:
        models = {name: {**asdict(GUIDES[name]), **asdict(f)} for name, f in figures.items()}
        said = {"size": args.size, "device": args.device, "precision": args.precision, "machine": machine}
        print(json.dumps({**said, "models": models, "failures": failures}))
    return 1 if failures else 0


def _measure(args: argparse.Namespace, names: list[str]) -> tuple[dict[str, Figures], dict[str, str], str]:
    import torch
    from tqdm import tqdm

    from vla_ros.errors import VlaError
    from vla_ros.models.measurement.measure import describe_machine, measure
    from vla_ros.policies.local import choose_device, choose_precision

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    chosen, precision = choose_device(args.device), choose_precision(args.precision)
    figures, failures = {}, {}
    for name in tqdm(names, desc="models", unit="model", disable=None):
        try:
            figures[name] = measure(name, args.size, chosen, args.seconds, not args.no_train, precision)
        except (VlaError, MemoryError, RuntimeError) as error:
            failures[name] = str(error)
    return figures, failures, describe_machine(chosen)


def _show(args: argparse.Namespace, figures: dict[str, Figures], failures: dict[str, str], machine: str) -> None:
    from vla_ros.models.measurement.report import fill, guide_markdown, markdown, picture, plain

    for line in markdown(figures) if args.markdown else plain(figures):
        print(line)
    if args.into is not None:
        words = [f"`vla-ros {shlex.join(_command(args))}`, {args.precision}, on: {machine}", "", *markdown(figures)]
        missing = [f"Not measured: `{name}`: {reason}." for name, reason in failures.items()]
        fill(args.into, f"figures {args.size} {args.device}", [*words, *(["", *missing] if missing else [])])
        fill(args.into, "guide", guide_markdown())
        print(f"filled the tables of {args.into}")
    if args.picture is not None and figures:
        picture(figures, f"The {args.size} networks, {args.device}, {args.precision}", args.picture)
        print(f"drew {args.picture}")


def _command(args: argparse.Namespace) -> list[str]:
    """Return the arguments that repeat this measurement."""
    words = ["models", *args.names, "--size", args.size, "--device", args.device, "--precision", args.precision]
    words += ["--threads", str(args.threads), "--seconds", f"{args.seconds:g}"]
    return [*words, *(["--no-train"] if args.no_train else []), "--into", str(args.into)]
