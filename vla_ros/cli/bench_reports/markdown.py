"""Write the metrics of a report into a document, between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

WAYS = {"filter": "this filter", "clamp": "clamp each value", "latch": "reject and latch"}


def write_tables(report: Mapping[str, Any], path: Path) -> None:
    """Replace the tables for which the report has metrics; leave the others unchanged.

    Writes all tables if the file does not exist yet.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else "".join(f"{_mark(name)}\n\n" for name in TABLES)
    for name, (part, make) in TABLES.items():
        if part in report:
            body = f"<!-- bench:{name} -->\n{make(report)}\n<!-- /bench:{name} -->"
            place = re.search(rf"<!-- bench:{name} -->.*?<!-- /bench:{name} -->", text, flags=re.DOTALL)
            if place:
                text = text[: place.start()] + body + text[place.end() :]
    path.write_text(text, encoding="utf-8")


def _mark(name: str) -> str:
    return f"<!-- bench:{name} -->\n<!-- /bench:{name} -->"


def _rows(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _figures(report: Mapping[str, Any]) -> str:
    rows: list[tuple[str, str]] = []
    if "table" in report:
        rows.append(("fault table", f"{report['table']['stopped']} of {report['table']['tried']} faults stopped"))
    fuzz, clean = report["fuzz"], report.get("clean")
    worst = fuzz["worst"]
    rows.append(
        (
            "fuzzer",
            f"{fuzz['ticks']:,} ticks of nonsense: {fuzz['violations']} violations, {fuzz['raised']} exceptions; "
            f"largest share of a joint limit: velocity {worst['joint_velocity']:.3f}, acceleration "
            f"{worst['joint_acceleration']:.3f}, jerk {worst['joint_jerk']:.3f}; tool "
            f"{worst['beyond_workspace_mm']:.2f} mm beyond the workspace (1 mm is allowed); "
            f"table never nearer than {worst['table_mm']:.1f} mm",
        )
    )
    rows.append(("one tick in the fuzzer", f"p50 {fuzz['tick_ms_p50']:.2f} ms, p99 {fuzz['tick_ms_p99']:.2f} ms"))
    if clean:
        rows.append(
            (
                "nominal runs",
                f"{clean['scenes']} scenes: {clean['false_stop_share']:.2%} of ticks in a stop, "
                f"{clean['modified_share']:.2%} modified; success {clean['success_rate']:.0%}, "
                f"without the layer {clean['success_without']:.0%}",
            )
        )
    return _rows(("what", "figure"), rows)


def _comparison(report: Mapping[str, Any]) -> str:
    rows = []
    for name, label in WAYS.items():
        one = report["comparison"][name]
        replay = one["replay"]
        rows.append(
            (
                label,
                f"{one['violations']} in {one['commands']:,} commands",
                f"{replay['violations']} in {replay['commands']:,}",
                one["false_stops"],
                f"{one['success_rate']:.0%} of {one['scenes']}",
            )
        )
    return _rows(("way", "violations in closed loop", "violations in the replay", "false stops", "success"), rows)


def _graph(report: Mapping[str, Any]) -> str:
    rows = []
    for row in report["graph"]["faults"]:
        if not row["tried"]:
            rows.append((row["name"], "not tried", "-", "-", "-", "-", "-", "-"))
            continue
        travel = "-"
        if row["travel_rad_p50"] is not None:
            travel = f"{abs(row['travel_rad_p50']):.3f} / {abs(row['analytic_travel_rad_p50']):.3f}"
        stop = _ms(row["stop_ms_p50"])
        if row["analytic_stop_ms_p50"] is not None:
            stop += f" / {_ms(row['analytic_stop_ms_p50'])}"
        rows.append(
            (
                row["name"],
                ", ".join(row["got"]),
                f"{_ms(row['reaction_ms_p50'])} / {_ms(row['reaction_ms_p99'])}",
                _ms(row["deadline_ms"]),
                stop,
                travel,
                f"{row['stopped']} of {row['tried']}",
                f"{row['violations']} in {row['commands']:,}",
            )
        )
    head = (
        "fault, in motion",
        "answer",
        "brakes after, p50 / p99 ms",
        "at most",
        "rest after / analytic, ms",
        "travel / analytic, rad",
        "right",
        "violations",
    )
    return _rows(head, rows)


def _edges(report: Mapping[str, Any]) -> str:
    from vla_ros.safety_bench.edges import LINES

    rows = [
        (
            f"{row['line']}: {LINES[row['line']]}",
            row["name"],
            row["where"],
            f"{row['passed']} of {row['tried']}" if row["tried"] else "not tried",
            row["violations"],
        )
        for row in report["edges"]["rows"]
    ]
    return _rows(("edge", "case", "where", "passed", "violations"), rows)


def _kills(report: Mapping[str, Any]) -> str:
    kills = report["kills"]
    rows = [
        (
            name,
            one["strikes"],
            one["held"],
            one["resumed"],
            f"{_ms(one['hold_ms_p50'])} / {_ms(one['hold_ms_p99'])}",
            f"{one['violations']} in {one['commands']:,}",
            ", ".join(one["reasons"]),
        )
        for name, one in [*kills["groups"].items(), ("all", kills)]
    ]
    head = ("strike", "strikes", "held", "went on as documented", "hold after, p50 / p99 ms", "violations", "reasons")
    return _rows(head, rows)


def _load(report: Mapping[str, Any]) -> str:
    load = report["load"]
    share = load["missed_ticks"] / max(load["ticks"], 1)
    holds = ", ".join(f"{reason} {count}" for reason, count in sorted(load["holds"].items())) or "none"
    states = ", ".join(f"{name} {value:.1%}" for name, value in load["states"].items())
    return _rows(
        ("what", "figure"),
        [
            ("motion", f"{load['seconds'] / 60:.1f} min in {load['scenes']} scenes, {load['load_processes']} burners"),
            ("missed ticks", f"{load['missed_ticks']:,} of {load['ticks']:,} ({share:.2%})"),
            ("commands that the watch sent in place of a late one", f"{load['overruns']:,}"),
            ("violations", f"{load['violations']} in {load['commands']:,} commands ({load['lost']} not heard)"),
            ("motion broken off by a hold", holds),
            ("time in each state", states),
        ],
    )


def _table(report: Mapping[str, Any]) -> str:
    return _rows(("fault", "answer"), [(row["name"], row["got"]) for row in report["table"]["rows"]])


TABLES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "figures": ("fuzz", _figures),
    "comparison": ("comparison", _comparison),
    "edges": ("edges", _edges),
    "graph": ("graph", _graph),
    "kills": ("kills", _kills),
    "load": ("load", _load),
    "table": ("table", _table),
}
"""Maps each marker name to the report section it needs and the function that renders its table."""
