"""`vla-ros models`: which network for which job, with its size, speed and memory on this machine."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vla_ros.models.measure import Figures

HELP = "compare the networks: what each is for, and its size, speed and memory here"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="*", help="which networks (default: all)")
    parser.add_argument("--size", default="tiny", choices=["tiny", "full"],
                        help="tiny: what trains on a CPU; full: gigabytes, and slow on a CPU")  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda, auto")
    parser.add_argument("--threads", type=int, default=0, help="threads on the CPU (0: one a core)")
    parser.add_argument("--seconds", type=float, default=1.0, help="time to spend on each figure")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (the figures hardly depend on it)")
    parser.add_argument("--no-train", action="store_true", help="leave out the training step")
    parser.add_argument("--markdown", action="store_true", help="print the figures as a Markdown table")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when every network that was asked for has been measured."""
    from vla_ros.models.guide import GUIDES

    for name in args.names:
        if name not in GUIDES:
            near = difflib.get_close_matches(name, GUIDES, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"choose from: {', '.join(GUIDES)}"
            print(f"vla-ros models: there is no network '{name}'; {hint}", file=sys.stderr)
            return 2
    figures, failures = _measure(args, args.names or list(GUIDES))
    for line in _markdown(figures) if args.markdown else _table(figures):
        print(line)
    for name, reason in failures.items():
        print(f"{name}: not measured: {reason}", file=sys.stderr)
    if args.json:
        models = {name: {**asdict(GUIDES[name]), **asdict(f)} for name, f in figures.items()}
        print(json.dumps({"size": args.size, "device": args.device, "models": models, "failures": failures}))
    return 1 if failures else 0


def _measure(args: argparse.Namespace, names: list[str]) -> tuple[dict[str, Figures], dict[str, str]]:
    import torch
    from tqdm import tqdm

    from vla_ros.errors import VlaError
    from vla_ros.models.measure import measure
    from vla_ros.policies.local import choose_device

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = choose_device(args.device)
    figures, failures = {}, {}
    for name in tqdm(names, desc="models", unit="model", disable=None):
        try:
            figures[name] = measure(name, args.size, device, args.seconds, not args.no_train)
        except (VlaError, MemoryError, RuntimeError) as error:
            failures[name] = str(error)
    return figures, failures


COLUMNS = ("network", "parameters", "full size", "act ms", "step ms", "weights MB", "act MB", "step MB", "plain MB")


def _rows(figures: dict[str, Figures]) -> list[list[str]]:
    return [
        [
            name, count(f.parameters), "-" if f.full_parameters is None else count(f.full_parameters),
            f"{f.act_ms:.1f}", "-" if f.step_ms is None else f"{f.step_ms:.0f}", f"{f.weights_mb:.1f}",
            f"{f.act_mb:.1f}", "-" if f.step_mb is None else f"{f.step_mb:.0f}",
            "-" if f.plain_step_mb is None else f"{f.plain_step_mb:.0f}",
        ]
        for name, f in figures.items()
    ]  # fmt: skip


def _table(figures: dict[str, Figures]) -> list[str]:
    from vla_ros.models.guide import GUIDES

    rows = [list(COLUMNS), *_rows(figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    for name in figures:
        guide = GUIDES[name]
        text = f"Best for {guide.best_for}. Use when {guide.use_when}. Good for {guide.good_for}. {guide.paper}."
        lines += ["", name, *textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="  ")]
    return lines


def _markdown(figures: dict[str, Figures]) -> list[str]:
    rows = [list(COLUMNS), ["---", *["---:"] * (len(COLUMNS) - 1)], *_rows(figures)]
    return [f"| {' | '.join(row)} |" for row in rows]


def count(number: int) -> str:
    """Return a number of parameters for people: 5.3e9 as "5.3 B", 340000 as "0.34 M"."""
    if number >= 1e9:
        return f"{number / 1e9:.1f} B"
    return f"{number / 1e6:.0f} M" if number >= 1e7 else f"{number / 1e6:.2f} M"
