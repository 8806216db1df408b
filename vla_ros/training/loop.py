"""The training loop: AdamW, warm-up and cosine, clipping, an average of the weights, resume, and a progress bar."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from vla_ros.errors import VlaError
from vla_ros.models.contract import ModelInput, ModelTarget, VlaModel

STATE_FILE = "training_state.pt"


@dataclass(frozen=True)
class LoopOptions:
    """How long and how fast.

    Attributes:
        steps: Updates in all, those before a resume included.
        learning_rate: Largest rate, reached after `warm_up` updates; a cosine brings it to a hundredth.
        warm_up: Updates until then.
        weight_decay: Of AdamW (Loshchilov and Hutter 2019).
        clip: Largest norm of the gradient.
        average: Decay of the exponential average of the weights.
        save_every: Updates between two saved states.
    """

    steps: int
    learning_rate: float = 1e-3
    warm_up: int = 200
    weight_decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.998
    save_every: int = 500


@dataclass(frozen=True)
class TrainingRecord:
    """The loss and its parts at one update."""

    step: int
    loss: float
    parts: dict[str, float]


class TrainingLoop:
    """Trains one network; `averaged` holds the weights to keep."""

    def __init__(self, network: VlaModel, options: LoopOptions, device: torch.device) -> None:
        """Prepare optimiser, schedule and average."""
        self.network, self.options, self.device = network.to(device), options, device
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, self._rate)
        self.step = 0

    def _rate(self, step: int) -> float:
        if step < self.options.warm_up:
            return (step + 1) / self.options.warm_up
        share = (step - self.options.warm_up) / max(1, self.options.steps - self.options.warm_up)
        return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))

    def run(
        self, batches: Iterator[tuple[ModelInput, ModelTarget]], folder: Path | None = None,
        report: Callable[[TrainingRecord], None] | None = None,
    ) -> float:  # fmt: skip
        """Train until `options.steps` updates are done and return the last loss.

        Raises:
            VlaError: when the loss is not finite: no weights are saved from there.
        """
        loss = math.nan
        with tqdm(total=self.options.steps, initial=self.step, unit="step", desc="train", mininterval=2.0) as bar:
            while self.step < self.options.steps:
                given, wanted = next(batches)
                loss, parts = self._update(_to(given, self.device), _to(wanted, self.device))
                self.step += 1
                bar.update()
                if self.step % 20 == 0:
                    bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                if report is not None and self.step % 50 == 0:
                    report(TrainingRecord(self.step, loss, parts))
                if folder is not None and self.step % self.options.save_every == 0:
                    self.save(folder)
        return loss

    def _update(self, given: ModelInput, wanted: ModelTarget) -> tuple[float, dict[str, float]]:
        self.network.train()
        loss, parts = self.network.compute_loss(given, wanted)
        if not torch.isfinite(loss):
            raise VlaError(f"the loss is {loss.item()} at step {self.step}; lower the learning rate or check the data")
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip)
        self._optimiser.step()
        self._schedule.step()
        decay = min(self.options.average, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(new, 1.0 - decay)
        return float(loss.detach()), parts

    def save(self, folder: Path) -> None:
        """Write all that `resume` needs; a half-written file never takes the place of a whole one."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / (STATE_FILE + ".partial")
        torch.save(
            {
                "step": self.step,
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "schedule": self._schedule.state_dict(),
            },
            partial,
        )
        partial.replace(folder / STATE_FILE)

    def resume(self, folder: Path) -> bool:
        """Continue from what `save` wrote; False when there is nothing."""
        path = folder / STATE_FILE
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self.step = int(state["step"])
        return True


def _to(batch: ModelInput | ModelTarget, device: torch.device) -> ModelInput | ModelTarget:  # type: ignore[misc]
    def move(value: object) -> object:
        if value is None:
            return None
        if isinstance(value, Tensor):
            return value.to(device)
        return {name: tensor.to(device) for name, tensor in value.items()}  # type: ignore[attr-defined]

    return type(batch)(**{name: move(value) for name, value in vars(batch).items()})
