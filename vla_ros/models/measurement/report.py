"""Reports network measurements: a table, blocks of a document, and a plot."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from vla_ros.errors import VlaError
from vla_ros.models.measurement.guide import GUIDES
from vla_ros.models.measurement.measure import Figures

COLUMNS = (
    "network",
    "parameters",
    "full size",
    "act ms",
    "act p50 ms",
    "step ms",
    "weights MB",
    "act MB",
    "step MB",
    "plain MB",
)
GUIDE_COLUMNS = ("network", "best for", "use when", "good for", "paper")


def count(number: int) -> str:
    """Format a number of parameters: 5.3e9 as "5.3 B", 340000 as "0.34 M"."""
    if number >= 1e9:
        return f"{number / 1e9:.1f} B"
    return f"{number / 1e6:.0f} M" if number >= 1e7 else f"{number / 1e6:.2f} M"


def rows(figures: Mapping[str, Figures]) -> list[list[str]]:
    """Return the table rows below `COLUMNS`."""

    def cell(value: float | None, digits: int = 0) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return [
        [
            name,
            count(f.parameters),
            count(f.full_parameters),
            cell(f.act_ms, 1),
            cell(f.act_median_ms, 1),
            cell(f.step_ms),
            cell(f.weights_mb, 1),
            cell(f.act_mb, 1),
            cell(f.step_mb),
            cell(f.plain_step_mb),
        ]
        for name, f in figures.items()
    ]


def plain(figures: Mapping[str, Figures]) -> list[str]:
    """Return a table for a terminal, followed by the advice on each network."""
    cells = [list(COLUMNS), *rows(figures)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    lines = []
    for name, *numbers in cells:
        right = (text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *right]))
    for name in figures:
        guide = GUIDES[name]
        text = f"Best for {guide.best_for}. Use when {guide.use_when}. Good for {guide.good_for}. {guide.paper}."
        lines += ["", name, *textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="  ")]
    return lines


def markdown(figures: Mapping[str, Figures]) -> list[str]:
    """Return the measurements as a Markdown table."""
    cells = [list(COLUMNS), ["---", *["---:"] * (len(COLUMNS) - 1)], *rows(figures)]
    return [f"| {' | '.join(row)} |" for row in cells]


def guide_markdown() -> list[str]:
    """Return the advice on every network as a Markdown table."""
    cells = [list(GUIDE_COLUMNS), ["---"] * len(GUIDE_COLUMNS)]
    cells += [[f"`{name}`", g.best_for, g.use_when, g.good_for, g.paper] for name, g in GUIDES.items()]
    return [f"| {' | '.join(row)} |" for row in cells]


def fill(path: Path, block: str, lines: Sequence[str]) -> None:
    """Insert `lines` between "<!-- block -->" and the next "<!-- end -->" of the document at `path`.

    Raises:
        VlaError: when the document has no such block.
    """
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {block} -->", "<!-- end -->"
    before, found, after = text.partition(begin)
    _, closed, rest = after.partition(end)
    if not found or not closed:
        raise VlaError(f"{path} has no block '{begin}' ... '{end}' to fill")
    path.write_text(f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{rest}", encoding="utf-8")


def picture(figures: Mapping[str, Figures], title: str, path: Path) -> None:
    """Plot latency per chunk and memory of each network, smallest network first, and save the plot to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = sorted(figures, key=lambda name: figures[name].parameters)
    ordered, places = [figures[name] for name in names], range(len(names))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), dpi=110, sharey=True)
    left.barh(places, [f.act_median_ms for f in ordered], color="#90cdf4", label="median")
    left.barh(places, [f.act_ms for f in ordered], color="#2b6cb0", height=0.4, label="fastest")
    left.set_yticks(places, [f"{name}, {count(f.parameters)}" for name, f in zip(names, ordered, strict=True)])
    left.set(xlabel="one chunk, ms", title=title)
    weights, acts = [f.weights_mb for f in ordered], [f.act_mb for f in ordered]
    right.barh(places, weights, color="#276749", label="weights")
    right.barh(places, acts, left=weights, color="#68d391", label="one chunk")
    steps = [f.step_mb or 0.0 for f in ordered]
    if any(steps):
        before = [w + a for w, a in zip(weights, acts, strict=True)]
        right.barh(places, steps, left=before, color="#c6f6d5", label="a training step")
    right.set(xlabel="MB", title="Memory, beside each other")
    left.invert_yaxis()
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.legend(loc="upper right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
