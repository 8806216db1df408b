"""Loss curve of a training: a file that is complete after every record, and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vla_ros.data.episodes.durable import write_whole
from vla_ros.errors import VlaError
from vla_ros.training.records import TrainingRecord

CURVE_FILE = "curve.jsonl"


class Curve:
    """Training records so far, on disk, so that a resumed run draws the whole curve."""

    def __init__(self, path: Path, fresh: bool) -> None:
        """Read the existing records, unless the training is new.

        Raises:
            VlaError: when the file is not a curve.
        """
        self._path = path
        self.records: list[TrainingRecord] = []
        if fresh:
            path.unlink(missing_ok=True)
        elif path.exists():
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
                self.records = [TrainingRecord.from_dict(json.loads(line)) for line in lines if line]
            except (ValueError, TypeError, KeyError) as error:
                raise VlaError(f"{path} is no curve of a training: {error}; remove it") from error

    def add(self, record: TrainingRecord) -> None:
        """Append one record; it replaces those that an interrupted run wrote after its last saved state."""
        self.records = [r for r in self.records if r.step < record.step] + [record]
        lines = [json.dumps({k: v for k, v in asdict(r).items() if v is not None}) for r in self.records]
        write_whole(self._path, ("\n".join(lines) + "\n").encode())


def plot_curve(records: Sequence[TrainingRecord], path: Path) -> None:
    """Plot the loss and its parts over the updates; below, held-out errors and success of played scenes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    measured = any(r.held_out is not None or r.played is not None for r in records)
    figure, panels = plt.subplots(
        1 + measured, figsize=(9, 7.5 if measured else 4.5), dpi=110, sharex=True, squeeze=False
    )
    axes = panels[0, 0]
    steps = [r.step for r in records]
    axes.plot(steps, [r.loss for r in records], color="black", linewidth=1.6, label="all")
    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    for number, name in enumerate(records[0].parts if records else ()):
        colour = colours[number % len(colours)]
        axes.plot(steps, [r.parts[name] for r in records], linewidth=0.9, color=colour, label=name)
    held_out = [(r.step, r.held_out.loss) for r in records if r.held_out is not None]
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "k--", linewidth=1.6, marker="o", markersize=3, label="held out")
    axes.set(ylabel="loss", yscale="log", title="Training")
    if measured:
        _draw_measured(panels[1, 0], records)
    for panel in panels[:, 0]:
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0))  # outside the axes, off the curves
    panels[-1, 0].set_xlabel("update")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _draw_measured(axes: Any, records: Sequence[TrainingRecord]) -> None:  # noqa: ANN401 (Matplotlib is not imported here)
    """Plot the error of each action part relative to that of the mean action, and the success rate of plays."""
    measured = [(r.step, r.held_out) for r in records if r.held_out is not None]
    if measured:
        steps = [step for step, _ in measured]
        axes.axhline(1.0, color="gray", linewidth=1.0, linestyle=":", label="mean action")
        axes.plot(steps, [one.relative for _, one in measured], color="black", linewidth=1.6, label="action error")
        for name in measured[0][1].errors:
            ratios = [one.errors[name] / max(one.baseline[name], 1e-9) for _, one in measured]
            axes.plot(steps, ratios, linewidth=0.9, label=name.rpartition(" [")[0])
    played = [(r.step, r.played.successes / r.played.scenes) for r in records if r.played is not None]
    if played:
        axes.plot(*zip(*played, strict=True), "g^", label="success of plays")
    axes.set(ylabel="held out: error / that of the mean action", ylim=(0.0, None))
