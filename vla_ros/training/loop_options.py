"""Options of the training loop, of separately trained modules, and of the evaluation during training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vla_ros.errors import VlaError

SCHEDULES = ("cosine", "constant")
PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True)
class ParamGroupOptions:
    """Training options of one module of a network that differ from those of the rest.

    Attributes:
        steps: Updates after which it is frozen; its learning rate decays until then. 0: it is not trained.
        weight_decay: Weight decay of AdamW for this module.
    """

    steps: int
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.weight_decay >= 0.0:
            raise VlaError(
                f"a parameter group has steps {self.steps} and weight_decay {self.weight_decay}: expected 0 or more"
            )


@dataclass(frozen=True)
class LoopOptions:
    """Options of the training loop.

    Attributes:
        steps: Total number of updates, including those before a resume.
        learning_rate: Peak learning rate, reached after `warm_up` updates.
        warm_up: Number of warm-up updates.
        schedule: "cosine": decays to a hundredth at the end; "constant".
        weight_decay: Weight decay of AdamW (Loshchilov and Hutter 2019).
        max_grad_norm: Maximum gradient norm.
        ema_decay: Decay of the exponential moving average of the weights.
        save_every: Updates between saved states.
        report_every: Updates between reports.
        grad_accum_steps: Number of gradient accumulation steps per update.
        precision: Mixed precision of the activations: "no", "bf16" or "fp16".
        checkpointing: Whether to recompute activations in the backward pass instead of keeping them.
        seed: Seed of the networks' random numbers.
        tensorboard: Whether to write the curves for TensorBoard, next to the checkpoint.
        workers: Number of processes that load batches in advance; 0: they are loaded when needed.
        param_groups: Options of separately trained modules, by prefix of their parameters' names.
    """

    steps: int
    learning_rate: float = 1e-3
    warm_up: int = 200
    schedule: str = "cosine"
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    ema_decay: float = 0.998
    save_every: int = 500
    report_every: int = 50
    grad_accum_steps: int = 1
    precision: str = "no"
    checkpointing: bool = False
    seed: int = 0
    tensorboard: bool = False
    workers: int = 0
    param_groups: Mapping[str, ParamGroupOptions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise VlaError(f"{name} is '{getattr(self, name)}', expected one of {known}")
        low = {"steps": 1, "warm_up": 0, "save_every": 1, "report_every": 1, "grad_accum_steps": 1, "workers": 0}
        for name, least in low.items():
            if getattr(self, name) < least:
                raise VlaError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if not (self.learning_rate > 0.0 and self.max_grad_norm > 0.0 and 0.0 <= self.ema_decay < 1.0):
            raise VlaError(
                f"learning_rate {self.learning_rate}, max_grad_norm {self.max_grad_norm}, ema_decay {self.ema_decay}: "
                "expected positive numbers, and an ema_decay below 1"
            )


@dataclass(frozen=True)
class HeldOutOptions:
    """Options of the evaluation during training.

    Attributes:
        fraction: Fraction of the episodes that is held out, one of every 1 / fraction consecutive ones; 0: none.
        rows: Number of held-out steps per measurement, always the same ones.
        every: Updates between measurements; the last update is measured, too.
        patience: Consecutive measurements without improvement after which the training stops; 0: it never stops early.
        play_every: Updates between plays; the last update is played, too. 0: nothing is played.
        scenes: Scenes per play.
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
    """Return whether a parameter is, or belongs to, the module `part`."""
    return name == part or name.startswith(f"{part}.")
