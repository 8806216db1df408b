"""Plots `vla-ros bench loop`: velocity steps, pauses and success over delay, per execution mode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLORS = {
    "synchronous": "#718096",
    "newest": "#c05621",
    "asynchronous": "#2b6cb0",
    "ensembling": "#6b46c1",
    "real_time_chunking": "#2f855a",
}


def loop_plot(report: Mapping[str, Any], path: Path) -> None:
    """Plot a report of `loop_report` and write the figure to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(15, 4.2), dpi=110)
    panels = (
        ("step_p95", "velocity step at a seam, 95 %\n(parts of its limit)", 1.0),
        ("seams_over", "seams over their limit (%)", None),
        ("pauses_over", "pauses over one period,\na minute of motion", None),
        ("successes", "success (%)", None),
    )
    rows = report["rows"]
    for panel, (name, label, limit) in zip(axes, panels, strict=True):
        for way in dict.fromkeys(row["way"] for row in rows):
            mine = [row for row in rows if row["way"] == way]
            values = [_shown(row, name) for row in mine]
            panel.plot([row["slower_ms"] for row in mine], values, "o-", color=COLORS[way], label=way.replace("_", " "))
        if limit is not None:
            panel.axhline(limit, color="black", linewidth=0.8, linestyle=":")
        panel.set(xlabel="policy slower by (ms)", title=label, ylim=(0, None))
        panel.title.set_fontsize(10)
        panel.grid(alpha=0.3)
    axes[3].set_ylim(0, 105)
    axes[0].legend(fontsize=8)
    episodes = rows[0]["episodes"]
    title = (
        f"{report['policy']} on {report['robot']}: {episodes} scenes a point, jitter ±{1e3 * report['jitter']:.0f} ms"
    )
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _shown(row: Mapping[str, Any], name: str) -> float:
    if name == "seams_over":
        return 100.0 * float(row["seams_over"]) / max(int(row["seams"]), 1)
    if name == "pauses_over":
        return 60.0 * float(row["pauses_over"]) / max(float(row["seconds"]), 1e-9)
    return 100.0 * row["successes"] / row["episodes"] if name == "successes" else float(row[name])
