"""Plots results of the tabletop suite: success by task, split and perturbation, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def tabletop_plot(figures: Mapping[str, Any], title: str, path: Path) -> None:
    """Plot the result of `summarize_tabletop` and save it to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = {"task": "without perturbation", "split": "without perturbation", "perturbation": "seen words and pairs"}
    widths = [max(1, len(figures["by"][group])) for group in groups]
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), dpi=110, sharey=True, gridspec_kw={"width_ratios": widths})
    for axis, (group, note) in zip(axes, groups.items(), strict=True):
        table = figures["by"][group]
        for place, one in enumerate(table.values()):
            rate, (low, high) = one["success_rate"], one["success_ci95"]
            axis.bar(place, rate, color="#2b6cb0")
            axis.errorbar(place, rate, [[max(rate - low, 0.0)], [max(high - rate, 0.0)]], color="black", capsize=3)
            axis.text(place, 0.02, f"n={one['episodes']}", ha="center", fontsize=7, color="white")
        axis.set_xticks(range(len(table)), [name.replace("_", " ") for name in table], rotation=25, ha="right")
        axis.set(ylim=(0, 1.05), title=f"by {group} ({note})")
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("success rate")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
