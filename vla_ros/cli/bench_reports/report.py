"""Evaluate and summarize a report of `vla-ros bench safety`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PARTS = ("fuzz", "clean", "edges", "kills", "load")
"""Report sections whose violations are summed."""

FALSE_STOPS, MODIFIED, SUCCESS_COST = 0.005, 0.01, 0.01
"""Limits for nominal runs: fraction of ticks in a stop, fraction of ticks modified, loss in success rate."""


def violations_in(report: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of referee violations in the safety layer's commands, per report section."""
    found = {part: int(report[part]["violations"]) for part in PARTS if part in report}
    if "comparison" in report:
        found["spoilt runs"] = int(report["comparison"]["filter"]["violations"])
        found["replay"] = int(report["comparison"]["filter"]["replay"]["violations"])
    if "graph" in report:
        found["graph"] = sum(int(row["violations"]) for row in report["graph"]["rows"])
    return found


def missed_in(report: Mapping[str, Any]) -> list[str]:
    """Return one sentence per unmet requirement."""
    missed = [f"{count} violations in {part}" for part, count in violations_in(report).items() if count]
    if "table" in report:
        missed += [f"fault table: {row['name']}" for row in report["table"]["rows"] if not row["stopped"]]
    if "fuzz" in report and report["fuzz"]["raised"]:
        missed.append(f"the fuzzer made {report['fuzz']['raised']} ticks raise")
    if "clean" in report:
        missed += _clean(report["clean"])
    if "graph" in report:
        rows = [row for row in report["graph"]["rows"] if row["tried"] and not row["stopped"]]
        missed += [f"graph: {row['name']}: {row['sentence']}" for row in rows]
    if "edges" in report:
        missed += [
            f"line {row['line']}, {row['where']}: {row['name']}: {row['sentence']}"
            for row in report["edges"]["rows"]
            if row["passed"] < row["tried"]
        ]
    if "kills" in report:
        missed += [
            f"{row['signal']} of {row['node']}: {row['sentence'] or 'it did not hold or did not go on'}"
            for row in report["kills"]["rows"]
            if row["sentence"] or not (row["held"] and row["resumed"])
        ]
    return missed


def _clean(clean: Mapping[str, Any]) -> list[str]:
    limits = (
        ("fraction of ticks in a stop in nominal runs", clean["false_stop_share"], FALSE_STOPS),
        ("share of clean ticks modified", clean["modified_share"], MODIFIED),
        ("success that the layer costs", clean["success_without"] - clean["success_rate"], SUCCESS_COST),
    )
    return [f"{name}: {value:.4f}, at most {most}" for name, value, most in limits if value > most + 1e-9]


def summary_of(report: Mapping[str, Any]) -> str:
    """Return a short human-readable summary."""
    lines = [line for part, tell in LINES.items() if part in report for line in tell(report[part])]
    lines += [f"MISSED: {sentence}" for sentence in report["missed"]] or ["nothing missed"]
    return "\n".join(lines)


def _table_lines(table: Mapping[str, Any]) -> list[str]:
    return [f"fault table   {table['stopped']} of {table['tried']} stopped"]


def _fuzz_lines(fuzz: Mapping[str, Any]) -> list[str]:
    return [
        f"fuzzer        {fuzz['ticks']:,} ticks, {fuzz['violations']} violations, {fuzz['raised']} raised, "
        f"tick p50 {fuzz['tick_ms_p50']} ms, p99 {fuzz['tick_ms_p99']} ms"
    ]


def _clean_lines(clean: Mapping[str, Any]) -> list[str]:
    return [
        f"nominal runs  {clean['scenes']} scenes: stopped {clean['false_stop_share']:.2%} of ticks, modified "
        f"{clean['modified_share']:.2%}, success {clean['success_rate']:.0%} (without {clean['success_without']:.0%})"
    ]


def _comparison_lines(comparison: Mapping[str, Any]) -> list[str]:
    return [
        f"{name:<13} violations {one['violations']} in {one['commands']}, false stops {one['false_stops']}, "
        f"success {one['success_rate']:.0%}; same recording: violations {one['replay']['violations']}"
        for name, one in comparison.items()
    ]


def _graph_lines(graph: Mapping[str, Any]) -> list[str]:
    lines = []
    for row in graph["faults"]:
        verdict = "stopped" if row["stopped"] == row["tried"] else "MISSED"
        if not row["tried"]:
            verdict = "no try"
        reaction = (
            "" if row["reaction_ms_p50"] is None else f"{row['reaction_ms_p50']:.0f} / {row['reaction_ms_p99']:.0f} ms"
        )
        lines.append(f"{verdict:<8} {row['name']:<52} {reaction:<16} {', '.join(row['got'])}")
    return lines


def _edges_lines(edges: Mapping[str, Any]) -> list[str]:
    by_line: dict[int, list[Mapping[str, Any]]] = {}
    for row in edges["rows"]:
        by_line.setdefault(row["line"], []).append(row)
    return [
        f"edges, line {line:<2} {sum(row['passed'] for row in rows)} of {sum(row['tried'] for row in rows)} passed, "
        f"{sum(row['violations'] for row in rows)} violations"
        for line, rows in sorted(by_line.items())
    ]


def _kills_lines(kills: Mapping[str, Any]) -> list[str]:
    return [
        f"kills         {kills['strikes']} strikes, {kills['held']} held, {kills['resumed']} resumed, "
        f"{kills['violations']} violations in {kills['commands']:,} commands ({kills['lost']} not heard)"
    ]


def _load_lines(load: Mapping[str, Any]) -> list[str]:
    return [
        f"under load    {load['seconds'] / 60:.1f} min, {load['missed_ticks']} of {load['ticks']:,} ticks missed, "
        f"{load['overruns']} sent by the watch, {load['violations']} violations in {load['commands']:,} commands"
    ]


LINES = {
    "table": _table_lines,
    "fuzz": _fuzz_lines,
    "clean": _clean_lines,
    "comparison": _comparison_lines,
    "edges": _edges_lines,
    "graph": _graph_lines,
    "kills": _kills_lines,
    "load": _load_lines,
}
