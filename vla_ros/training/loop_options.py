"""How long, how fast and in how many pieces the training loop trains, and which parts of a network otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vla_ros.errors import VlaError

SCHEDULES = ("cosine", "constant")
PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True)
class PartOptions:
    """How a part of a network is trained that is not trained as the rest is.

    Attributes:
        steps: Updates after which it stays as it is; its rate falls until then. 0: it is not trained.
        weight_decay: Of AdamW, for this part.
    """

    steps: int
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.weight_decay >= 0.0:
            raise VlaError(f"a part has steps {self.steps} and weight_decay {self.weight_decay}: expected 0 or more")


@dataclass(frozen=True)
class LoopOptions:
    """How long, how fast, in how many pieces.

    Attributes:
        steps: Updates in all, those before a resume included.
        learning_rate: Largest rate, reached after `warm_up` updates.
        warm_up: Updates until then.
        schedule: "cosine": down to a hundredth at the end; "constant".
        weight_decay: Of AdamW (Loshchilov and Hutter 2019).
        clip: Largest norm of the gradient.
        average: Decay of the exponential average of the weights.
        save_every: Updates between two saved states.
        report_every: Updates between two reports.
        accumulate: Shares of a batch that a process works on one after the other.
        precision: "no", "bf16" or "fp16": what activations are computed in.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
        seed: Of the random numbers of the networks.
        tensorboard: Write the curves for TensorBoard, beside the checkpoint.
        workers: Processes that draw batches in advance; 0: they are drawn when they are needed.
        parts: Parts that are trained otherwise, by the beginning of their parameters' names.
    """

    steps: int
    learning_rate: float = 1e-3
    warm_up: int = 200
    schedule: str = "cosine"
    weight_decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.998
    save_every: int = 500
    report_every: int = 50
    accumulate: int = 1
    precision: str = "no"
    checkpointing: bool = False
    seed: int = 0
    tensorboard: bool = False
    workers: int = 0
    parts: Mapping[str, PartOptions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise VlaError(f"{name} is '{getattr(self, name)}', expected one of {known}")
        low = {"steps": 1, "warm_up": 0, "save_every": 1, "report_every": 1, "accumulate": 1, "workers": 0}
        for name, least in low.items():
            if getattr(self, name) < least:
                raise VlaError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if not (self.learning_rate > 0.0 and self.clip > 0.0 and 0.0 <= self.average < 1.0):
            raise VlaError(
                f"learning_rate {self.learning_rate}, clip {self.clip}, average {self.average}: expected positive "
                "numbers, and an average below 1"
            )


@dataclass(frozen=True)
class HeldOutOptions:
    """How a training is measured while it runs.

    Attributes:
        fraction: Of the episodes, that no update learns from: one of each 1 / fraction in a row; 0: none.
        rows: Steps of them that are computed at each measurement, always the same ones.
        every: Updates between two measurements; the last update is measured, too.
        patience: Measurements in a row without a better one after which the training ends; 0: it goes on.
        play_every: Updates between two plays; the last update is played, too. 0: nothing is played.
        scenes: Scenes of a play.
        seed: First seed of these scenes; neither demonstrations nor evaluations use it.
    """

    fraction: float = 0.1
    rows: int = 128
    every: int = 250
    patience: int = 0
    play_every: int = 0
    scenes: int = 5
    seed: int = 5_000_000

    def __post_init__(self) -> None:
        if not 0.0 <= self.fraction <= 0.5:
            raise VlaError(f"held_out.fraction is {self.fraction}, expected 0 (none) to 0.5")
        for name, least in (("rows", 1), ("every", 1), ("patience", 0), ("play_every", 0), ("scenes", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise VlaError(f"held_out.{name} is {getattr(self, name)}, expected at least {least}")


def belongs(name: str, part: str) -> bool:
    """Say whether a parameter's name is that of a part, or lies in it."""
    return name == part or name.startswith(f"{part}.")
