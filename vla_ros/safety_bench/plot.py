"""Plots the safety bench: effects of identical bad commands, and the cost in nominal runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

WAYS = {"filter": "this filter", "clamp": "clamp each value", "latch": "reject and latch"}
COLOURS = {"filter": "#2f855a", "clamp": "#c05621", "latch": "#718096"}


def safety_plot(report: Mapping[str, Any], path: Path) -> None:
    """Plot the comparison in a report of `vla-ros bench safety` and save it to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), dpi=110, width_ratios=(1.6, 0.9, 1.15))
    ways = report["comparison"]
    kinds = [
        kind
        for kind in next(iter(ways.values()))["replay"]["by_kind"]
        if any(one["replay"]["by_kind"][kind] for one in ways.values())
    ]
    for place, (name, label) in enumerate(WAYS.items()):
        one = ways[name]
        replay = one["replay"]
        values = [1000.0 * replay["by_kind"][kind] / replay["commands"] for kind in kinds]
        rows = [row + 0.27 * (place - 1) for row in range(len(kinds))]
        left.barh(rows, values, height=0.25, color=COLOURS[name], label=f"{label}: {replay['violations']}")
        for row, value in zip(rows, values, strict=True):
            left.text(value, row, f" {value:.0f}", va="center", fontsize=8, color=COLOURS[name])
        middle.bar(place, 100 * one["success_rate"], color=COLOURS[name])
        middle.text(place, 100 * one["success_rate"] + 1, f"{one['success_rate']:.0%}", ha="center")
    left.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    left.invert_yaxis()
    left.margins(x=0.12)
    left.set(xlabel="violations per 1,000 commands", title="the same recorded bad commands")
    left.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, title="violations in all")
    middle.set_xticks(range(3), [label.replace(" ", "\n", 1) for label in WAYS.values()], fontsize=8)
    middle.set(ylim=(0, 110), ylabel="%", title=f"success, 1 chunk in 8 spoilt (n={ways['filter']['scenes']})")
    clean, fuzz, table = report["clean"], report["fuzz"], report["table"]
    lines = [
        ("fault table", f"{table['stopped']} of {table['tried']} stopped"),
        ("fuzzed ticks", f"{fuzz['ticks']:,}"),
        ("violations", f"{fuzz['violations']}"),
        ("tick p50 / p99", f"{fuzz['tick_ms_p50']:.2f} / {fuzz['tick_ms_p99']:.2f} ms"),
        ("nominal runs stopped", f"{clean['false_stop_share']:.2%} of ticks"),
        ("nominal runs modified", f"{clean['modified_share']:.2%} of ticks"),
        ("success with / without", f"{clean['success_rate']:.0%} / {clean['success_without']:.0%}"),
    ]
    right.axis("off")
    right.set_title("the filter in figures")
    for row, (name, value) in enumerate(lines):
        right.text(0.0, 0.88 - 0.125 * row, name, fontsize=9, color="#4a5568", transform=right.transAxes)
        right.text(1.0, 0.88 - 0.125 * row, value, fontsize=9, ha="right", weight="bold", transform=right.transAxes)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
