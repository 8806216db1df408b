"""The losses of a training over its updates: on disk, whole after every line, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vla_ros.data.durable import write_whole
from vla_ros.errors import VlaError
from vla_ros.training.loop import TrainingRecord

CURVE_FILE = "curve.jsonl"


class Curve:
    """The losses so far, on disk, so that a run which goes on draws the whole curve."""

    def __init__(self, path: Path, fresh: bool) -> None:
        """Read what is there, unless the training is new.

        Raises:
            VlaError: when that is no curve.
        """
        self._path = path
        self.records: list[TrainingRecord] = []
        if fresh:
            path.unlink(missing_ok=True)
        elif path.exists():
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
                self.records = [TrainingRecord(**json.loads(line)) for line in lines if line]
            except (ValueError, TypeError) as error:
                raise VlaError(f"{path} is no curve of a training: {error}; remove it") from error

    def add(self, record: TrainingRecord) -> None:
        """Append one record; what an interrupted run had said after its last state is replaced."""
        self.records = [r for r in self.records if r.step < record.step] + [record]
        lines = [json.dumps({"step": r.step, "loss": r.loss, "parts": r.parts}) for r in self.records]
        write_whole(self._path, ("\n".join(lines) + "\n").encode())


def curve_picture(records: Sequence[TrainingRecord], path: Path) -> None:
    """Draw the loss and its parts over the updates."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5), dpi=110)
    steps = [r.step for r in records]
    axes.plot(steps, [r.loss for r in records], color="black", linewidth=1.6, label="all")
    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    for number, name in enumerate(records[0].parts if records else ()):
        colour = colours[number % len(colours)]
        axes.plot(steps, [r.parts[name] for r in records], linewidth=0.9, color=colour, label=name)
    axes.set(xlabel="update", ylabel="loss", yscale="log", title="Training")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0))  # beside the curves, which cross all over
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
