"""Held-out episodes: excluded from training, and used to evaluate the network during training.

The split is by episode, because the steps of one episode are alike. It depends on the episodes' indices alone, so that
when data are appended (a round of DAgger), episodes that were held out stay held out.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.actions.groups import Unit
from vla_ros.actions.rotations import Rotation
from vla_ros.models.contract import ModelInput, ModelTarget, VlaModel
from vla_ros.processing.features import PolicyFeatures
from vla_ros.processing.processor import Processor
from vla_ros.training.loop import to_device
from vla_ros.training.loop_options import HeldOutOptions
from vla_ros.training.records import HeldOutRecord, PlayRecord, TrainingRecord

BLOCK = 32
"""Number of steps computed at a time."""

MIN_ERROR = 1e-9
"""Error of the mean action below which a part of the actions is constant and therefore ignored."""

Keep = Callable[[VlaModel, int, HeldOutRecord], None]
"""Saves a network that is better than all before it, with its update and its held-out record."""

Play = Callable[[Path], PlayRecord]
"""Runs a few scenes with the policy in a folder."""


class SplitDataset(Protocol):
    """Recorded steps with the indices of their episodes."""

    episode_of: NDArray[np.int64]
    processor: Processor

    @property
    def groups(self) -> tuple[int, ...]:
        """Number of episodes of each data set."""
        ...

    def steps(
        self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]
    ) -> tuple[ModelInput, ModelTarget]:
        """Return the steps with these indices, each randomized by its own generator."""
        ...


def held_out_episodes(groups: Sequence[int], fraction: float) -> tuple[int, ...]:
    """Return the indices of the held-out episodes: one of every 1 / `fraction` consecutive ones.

    Args:
        groups: Number of episodes of each dataset; indices run through all of them. A dataset with fewer than
            1 / `fraction` episodes is used for training as a whole.
        fraction: 0 (none) to 0.5.
    """
    if fraction <= 0.0:
        return ()
    size, held, first = round(1.0 / fraction), [], 0
    for count in groups:
        for block in range(count // size):
            held.append(first + block * size + int(np.random.default_rng([0, block]).integers(size)))
        first += count
    return tuple(held)


@dataclass(frozen=True)
class ActionPart:
    """Columns of an action that share a unit.

    Attributes:
        name: Name of the group, and of the part.
        continuous: Indices among the continuous columns.
        binary: Indices among the binary columns.
        vector: Whether the columns form one vector, whose norm is the error.
    """

    name: str
    continuous: tuple[int, ...]
    binary: tuple[int, ...]
    vector: bool = False


def action_parts(features: PolicyFeatures) -> list[ActionPart]:
    """Return the separately measured parts of the actions, in order; a tool has a position and a rotation part."""
    place = {column: number for number, column in enumerate(features.continuous_columns)}
    state = {column: number for number, column in enumerate(features.binary_columns)}
    parts = []
    for group in features.action.groups:
        columns = list(range(*features.action.columns[group.name].indices(features.action.width)))
        if columns[0] in state:
            parts.append(ActionPart(f"{group.name} [wrong]", (), (state[columns[0]],)))
            continue
        numbers = tuple(place[column] for column in columns)
        if not group.quantity.of_tool:
            angle = group.quantity.of_joints and group.unit is Unit.SI
            parts.append(ActionPart(f"{group.name} [{'rad' if angle else group.unit.value}]", numbers, ()))
            continue
        length = "m" if group.unit in (Unit.SI, Unit.DEGREES) else group.unit.value
        parts.append(ActionPart(f"{group.name} position [{length}]", numbers[:3], (), True))
        if numbers[3:]:
            angle = group.rotation is Rotation.ROTATION_VECTOR and group.unit is Unit.SI
            parts.append(ActionPart(f"{group.name} rotation [{'rad' if angle else 'columns'}]", numbers[3:], (), True))
    return parts


class HeldOut:
    """Evaluates a network on held-out episodes during training, keeps the best, and stops early.

    Attributes:
        measures: Whether any episode is held out.
        stopped: Whether `patience` is exhausted.
    """

    def __init__(
        self,
        dataset: SplitDataset,
        options: HeldOutOptions,
        device: torch.device,
        keep: Keep,
        play: Callable[[VlaModel], PlayRecord] | None = None,
    ) -> None:
        """Choose the steps; nothing is computed before the first measurement.

        Args:
            dataset: All steps, including the held-out ones, as the network reads them.
            options: Options of the evaluation.
            device: Device to compute on.
            keep: Saves a network that is the best so far; see `Keep`.
            play: Runs a few scenes with a network.
        """
        self._dataset, self.options, self._device, self._keep, self._play = dataset, options, device, keep, play
        held = held_out_episodes(dataset.groups, options.fraction)
        self.measures, self.stopped = bool(held), False
        inside = np.isin(dataset.episode_of, held)
        rng = np.random.default_rng(0)
        self._index, self._taught = (
            np.sort(rng.permutation(np.flatnonzero(which))[: options.rows]) for which in (inside, ~inside)
        )
        self._mean: tuple[Tensor, Tensor] | None = None
        self._best, self._waited = math.inf, 0

    @property
    def kept(self) -> bool:
        """Whether a network was kept, in this run or before an interruption."""
        return math.isfinite(self._best)

    def go_on_from(self, records: Sequence[TrainingRecord]) -> None:
        """Restore the state of the evaluation from the records before an interruption."""
        for record in records:
            if record.held_out is not None:
                self._count(record.held_out.relative)

    def due(self, step: int, last: bool) -> bool:
        """Return whether an evaluation or a play is due after an update."""
        measured = self.measures and (last or step % self.options.every == 0)
        return measured or self._plays(step, last)

    def __call__(self, network: VlaModel, step: int, last: bool) -> tuple[HeldOutRecord | None, PlayRecord | None]:
        """Run the evaluation and the play due after an update; keep the network if it is the best so far."""
        record = played = None
        if self.measures and (last or step % self.options.every == 0):
            record = self.measure(network)
            if self._count(record.relative):
                self._keep(network, step, record)
        if self._play is not None and self._plays(step, last):
            played = self._play(network)
        return record, played

    def _plays(self, step: int, last: bool) -> bool:
        every = self.options.play_every
        return self._play is not None and bool(every) and (last or step % every == 0)

    def _count(self, relative: float) -> bool:
        """Count one measurement; return True if it is the best so far."""
        if relative < self._best:
            self._best, self._waited = relative, 0
            return True
        self._waited += 1
        self.stopped = 0 < self.options.patience <= self._waited
        return False

    def measure(self, network: VlaModel) -> HeldOutRecord:
        """Return the metrics of a network on the held-out steps; deterministic for a given network."""
        if self._mean is None:
            self._mean = self._mean_action()
        processor = self._dataset.processor
        parts = action_parts(processor.features)
        sums, count, losses, told = np.zeros((2, len(parts))), 0.0, [], []
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []), torch.no_grad():
            torch.manual_seed(0)
            for inputs, target, size in self._batches(self._index):
                loss, one = network.compute_loss(inputs, target)
                losses.append(size * float(loss))
                told.append({name: size * value for name, value in one.items()})
                output = network.predict(inputs)
                there = target.target_visible > 0.5
                truth = target.continuous[there], target.binary[there]
                rows = int(there.sum())
                chunks, states = (value.to(self._device).expand(rows, *value.shape) for value in self._mean)
                own_action = output.continuous[there], output.binary[there] > 0.0
                for row, predicted in enumerate((own_action, (chunks, states))):
                    sums[row] += [_error(part, predicted, truth, processor) for part in parts]
                count += rows
        own, mean = (dict(zip((part.name for part in parts), row / max(count, 1.0), strict=True)) for row in sums)
        ratios = [own[name] / mean[name] for name in own if mean[name] > MIN_ERROR]
        total = len(self._index)
        return HeldOutRecord(
            loss=sum(losses) / total,
            parts={name: sum(one[name] for one in told) / total for name in told[0]},
            errors={name: float(value) for name, value in own.items()},
            baseline={name: float(value) for name, value in mean.items()},
            relative=float(np.mean(ratios)) if ratios else 1.0,
        )

    def _mean_action(self) -> tuple[Tensor, Tensor]:
        """Return the mean chunk of training steps: (H, C) normalized, and (H, G), the most frequent state."""
        chunks: list[Tensor] = []
        states: list[Tensor] = []
        for _, target, _ in self._batches(self._taught):
            there = target.target_visible > 0.5
            chunks.append(target.continuous[there].cpu())
            states.append(target.binary[there].cpu())
        return torch.cat(chunks).mean(dim=0), torch.cat(states).mean(dim=0) > 0.5

    def _batches(self, index: NDArray[np.int64]) -> Iterator[tuple[ModelInput, ModelTarget, int]]:
        """Yield steps on the device, a block at a time; the randomization of a step depends on its index alone."""
        for first in range(0, len(index), BLOCK):
            steps = index[first : first + BLOCK]
            batch = self._dataset.steps(steps, [np.random.default_rng([0, int(step)]) for step in steps])
            inputs, target = to_device(batch, self._device)
            yield inputs, target, len(steps)


def play_saved(save: Callable[[Path, VlaModel], None], play: Play, out: Path) -> Callable[[VlaModel], PlayRecord]:
    """Return a function that plays a network from a temporary checkpoint folder in `out`."""

    def run(network: VlaModel) -> PlayRecord:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="play_", dir=out) as folder:
            save(Path(folder), network)
            return play(Path(folder))

    return run


def _error(
    part: ActionPart, output: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], processor: Processor
) -> float:
    """Return the sum, over chunks, of the mean error of their rows.

    Args:
        part: Columns to compare.
        output: Prediction: (n, H, C) normalized, and (n, H, G) bool.
        truth: Target: (n, H, C) normalized, and (n, H, G), 0 or 1.
        processor: Processor with the statistics to unnormalize.
    """
    if part.binary:
        columns = list(part.binary)
        wrong = output[1][..., columns].bool() != (truth[1][..., columns] > 0.5)
        return float(wrong.float().mean(dim=(1, 2)).sum())
    columns = list(part.continuous)
    values = [
        processor.statistics.action.unnormalize(one[0].float().cpu().numpy())[..., columns] for one in (output, truth)
    ]
    difference = values[0] - values[1]
    error = np.linalg.norm(difference, axis=-1) if part.vector else np.abs(difference).mean(axis=-1)
    return float(error.mean(axis=1).sum())
