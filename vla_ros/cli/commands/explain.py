"""`vla-ros explain TRACE --at TIME`: explain why the arm moved, slowed or stopped at that time.

`--report` writes a one-page report of the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.cli.arguments import path
from vla_ros.cli.failures import require_output
from vla_ros.errors import UsageError

if TYPE_CHECKING:
    from vla_ros.insight.explain import Change, Moment
    from vla_ros.insight.trace.reader import Trace

HELP = "say from a trace why the arm moved, slowed or stopped"

EXAMPLES = (
    "vla-ros explain",
    "vla-ros explain runs/trace --at 12.5",
    "vla-ros explain runs/trace --at -3",
    "vla-ros explain runs/trace --at 14:03:22",
    "vla-ros explain runs/trace --report run.html",
)

NEWEST = Path("runs/trace")
JPEG = b"\xff\xd8"
MOST_LINES = 200
"""Maximum number of state changes printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "trace",
        nargs="?",
        type=path,
        default=NEWEST,
        help="an MCAP file, a folder of them, or a "
        "folder of traces, of which the newest is taken (default %(default)s)",
    )
    parser.add_argument(
        "--at",
        metavar="TIME",
        help="s after the beginning (12.5) or before the end (-3), local time "
        "of day (14:03:22), or end; without it: what happened, and when",
    )
    parser.add_argument("--report", type=path, metavar="HTML", help="write one page of the run, with nothing outside")
    parser.add_argument("--out", type=path, default=Path("runs/explain"), help="folder of the images of --at")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Explain a trace; return 0.

    Raises:
        UsageError: when the trace does not exist, or the time is invalid or outside the trace.
        DataError: when the file is not a trace, has another version, or nothing in it is readable.
    """
    from vla_ros.insight.explain import changes, explain, parse_time
    from vla_ros.insight.trace.reader import read_trace

    if not args.trace.exists():
        raise UsageError(f"there is no trace {args.trace}: give a file, or a folder such as {NEWEST}")
    trace = read_trace(args.trace)
    at = None if args.at is None else parse_time(args.at, trace)
    _note_cut(trace)
    history = changes(trace)
    answer: dict[str, Any] = {
        "trace": str(trace.path),
        "seconds": round(trace.seconds, 3),
        "cut_short": trace.cut_short,
    }
    if at is not None:
        moment = explain(trace, at, history)
        answer |= _tell(moment, _save(moment, require_output(args.out)), quiet=args.json)
    elif args.report is None:
        answer |= _overview(trace, history, quiet=args.json)
    if args.report is not None:
        from vla_ros.insight.report import report

        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text(report(trace, history), encoding="utf-8")
        answer["report"] = str(args.report)
        if not args.json:
            print(f"report {args.report}, {args.report.stat().st_size / 1e3:.0f} kB")
    if args.json:
        print(json.dumps(answer))
    return 0


def _note_cut(trace: Trace) -> None:
    if trace.cut_short:
        print(
            f"vla-ros explain: {', '.join(trace.cut_short)} has no end: its writer still runs or was killed, or the "
            "file was cut; what can be read is shown",
            file=sys.stderr,
        )


def _save(moment: Moment, folder: Path) -> dict[str, str]:
    """Write a moment's images; return a mapping from camera to path."""
    saved = {}
    for camera, (_, content) in moment.images.items():
        if content.startswith(JPEG):
            folder.mkdir(parents=True, exist_ok=True)
            name = "".join(c if c.isalnum() or c in "-_" else "_" for c in camera)
            file = folder / f"{name}_{moment.clock.replace(':', '')}.jpg"
            file.write_bytes(content)
            saved[camera] = str(file)
    return saved


def _tell(moment: Moment, images: dict[str, str], *, quiet: bool) -> dict[str, Any]:
    if not quiet:
        print(f"{moment.seconds:.2f} s after the beginning ({moment.clock}):")
        for sentence in moment.sentences:
            print(f"  {sentence}")
        for camera, file in images.items():
            print(f"  image of {camera}, taken {moment.images[camera][0]:.2f} s earlier: {file}")
    return {
        "at": round(moment.seconds, 3),
        "clock": moment.clock,
        "state": moment.state,
        "reason": moment.reason,
        "sentences": list(moment.sentences),
        "images": images,
    }


def _overview(trace: Trace, history: Sequence[Change], *, quiet: bool) -> dict[str, Any]:
    from vla_ros.insight.trace.reader import NS

    rows = [
        {
            "at": round((one.at - trace.start) / NS, 3),
            "state": one.state,
            "reason": one.reason,
            "sentence": one.sentence,
        }
        for one in history
    ]
    if not quiet:
        robot = trace.origin.get("robot", "")
        print(f"{trace.path}: robot {robot}, {trace.seconds:.1f} s; explain any time of it with --at")
        for row in rows[:MOST_LINES]:
            print(f"  {row['at']:8.2f} s  {row['state']:<8}  {row['reason']}: {row['sentence']}")
        if len(rows) > MOST_LINES:
            print(f"  and {len(rows) - MOST_LINES} more: --json shows all, --report draws them")
    return {"changes": rows}
