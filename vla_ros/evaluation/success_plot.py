"""Plots success rates by color and shape, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_ros.evaluation.statistics import wilson_interval


def success_plot(figures: Mapping[str, Any], title: str, path: Path) -> None:
    """Plot the success rates of `summarize` as bars and save them to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = {"all": figures, **figures["by"]}
    figure, axes = plt.subplots(figsize=(8, 4), dpi=110)
    for place, (name, one) in enumerate(groups.items()):
        rate, count = one["success_rate"], one["episodes"]
        low, high = wilson_interval(round(rate * count), count)
        axes.bar(place, rate, color="#2b6cb0" if name == "all" else "#90cdf4")
        axes.errorbar(place, rate, [[max(rate - low, 0.0)], [max(high - rate, 0.0)]], color="black", capsize=4)
        axes.text(place, 0.02, f"n={count}", ha="center", fontsize=8)
    axes.set_xticks(range(len(groups)), list(groups), rotation=20)
    axes.set(ylim=(0, 1.05), ylabel="success rate", title=title)
    axes.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
