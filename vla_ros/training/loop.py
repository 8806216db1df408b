"""Training loop. The caller supplies the batch source and the loss.

Runs with `accelerate` on the CPU, one GPU, or several processes started by `torchrun` or `accelerate launch`. An update
is a function of its index alone: its batch and its random numbers are drawn from (seed, update). An interrupted run
therefore resumes exactly as if it had not stopped, and several processes see the same batch as one would.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vla_ros.data.episodes.lines import setting_differences
from vla_ros.errors import VlaError
from vla_ros.models.contract import ModelInput, ModelTarget, VlaModel
from vla_ros.training.activations import checkpoint_activations
from vla_ros.training.loop_options import LoopOptions, belongs
from vla_ros.training.records import HeldOutRecord, PlayRecord, TrainingRecord

if TYPE_CHECKING:
    from vla_ros.training.held_out import HeldOut

STATE_FILE = "training_state.pt"

FLOOR = 0.01
"""Final learning rate of the cosine schedule, as a fraction of the peak."""

Batch = Any
"""Batch from the source to the objective: nested tuples, mappings and dataclasses of tensors."""

Objective = Callable[[Any, Batch], tuple[Tensor, dict[str, float]]]
"""Maps (network, batch) to the scalar loss, a mean over the batch, and its parts by name."""


class BatchSource(Protocol):
    """Supplies the batches of a training."""

    def batch(self, update: int, part: int, parts: int) -> Batch:
        """Return the `part`-th of `parts` equal parts of the batch of update `update`, deterministically."""
        ...


def has_state(folder: Path) -> bool:
    """Return whether `folder` contains a saved training state."""
    return (folder / STATE_FILE).exists()


class TrainingLoop:
    """Trains one network; `averaged` holds the weights to keep (exponential moving average)."""

    def __init__(
        self,
        network: VlaModel,
        options: LoopOptions,
        device: torch.device,
        objective: Objective | None = None,
        belongs_to: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare optimizer, schedule and averaged weights.

        Args:
            network: Network to train; parameters without gradients stay frozen.
            options: Options of the loop.
            device: Device to compute on; under `torchrun` with CUDA each process takes the GPU of its rank instead.
            objective: Loss to minimize; by default the network's own `compute_loss`.
            belongs_to: Provenance of the weights, JSON values: saved with each state, which resumes with no other.
        """
        # accelerate keeps one state per process, and rejects another precision after the first.
        AcceleratorState._reset_state()
        self._accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=options.precision,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.belongs_to = dict(belongs_to or {})
        self.options, self.device = options, self._accelerator.device if device.type != "cpu" else device
        self.network = network.to(self.device)
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        if options.checkpointing:
            checkpoint_activations(self.network)
        groups, lengths = self._groups()
        self._ends = [(length, group["params"]) for length, group in zip(lengths, groups, strict=True)]
        optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, weight_decay=options.weight_decay)
        self._objective, self._optimiser = self._accelerator.prepare(_Objective(self.network, objective), optimiser)
        self._trained = [parameter for _, parameters in self._ends for parameter in parameters]
        rates: list[Callable[[int], float]] = [partial(self._rate, steps=length) for length in lengths]
        self._schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rates)
        self.step = 0

    def _groups(self) -> tuple[list[dict[str, Any]], list[int]]:
        """Return the optimizer's parameter groups, the rest of the network first, and the updates of each."""
        options = self.options
        free = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        groups, lengths = [], []
        for part, one in options.param_groups.items():
            names = [name for name in free if belongs(name, part)]
            if not names:
                raise VlaError(f"no part '{part}' can be trained, only {sorted({name.split('.')[0] for name in free})}")
            parameters = [free.pop(name) for name in names]
            if one.steps == 0:
                for parameter in parameters:
                    parameter.requires_grad_(False)
                continue
            groups.append({"params": parameters, "weight_decay": one.weight_decay})
            lengths.append(min(one.steps, options.steps))
        groups.insert(0, {"params": list(free.values())})
        lengths.insert(0, options.steps)
        if not any(group["params"] for group in groups):
            raise VlaError("the network has no parameter that training may change")
        return groups, lengths

    @property
    def is_main(self) -> bool:
        """Whether this process is the main one, which writes files."""
        return bool(self._accelerator.is_main_process)

    def _rate(self, step: int, steps: int) -> float:
        if step < self.options.warm_up:
            return (step + 1) / self.options.warm_up
        if self.options.schedule == "constant":
            return 1.0
        progress = (step - self.options.warm_up) / max(1, steps - self.options.warm_up)
        return FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

    def run(
        self,
        source: BatchSource,
        folder: Path | None = None,
        report: Callable[[TrainingRecord], None] | None = None,
        until: int | None = None,
        held_out: HeldOut | None = None,
    ) -> float:
        """Train until `options.steps` updates are done or `held_out` stops early; return the last loss.

        Args:
            source: Source of the batches.
            folder: Folder for states, saved every `save_every` updates, at the end and on an interruption.
            report: Called every `report_every` updates, in the main process.
            until: Stop after this update, as an interruption would.
            held_out: Evaluates `averaged` at intervals, in the main process.

        Raises:
            VlaError: when the loss is not finite; no state is saved after that.
        """
        loss, end = math.nan, min(self.options.steps, until or self.options.steps)
        writer, batches = self._writer(folder), self._batches(source, end)
        bar = tqdm(
            total=self.options.steps,
            initial=self.step,
            unit="step",
            desc="train",
            mininterval=2.0,
            disable=not self.is_main,
        )
        try:
            with bar:
                while self.step < end and not (held_out is not None and held_out.stopped):
                    loss, parts = self._update(batches)
                    self.step += 1
                    bar.update()
                    measured = self._measure(held_out)
                    ends = self.step == end or (held_out is not None and held_out.stopped)
                    if self.step % self.options.report_every == 0 or ends or any(measured):
                        bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                        self._tell(TrainingRecord(self.step, loss, parts, *measured), report, writer)
                    if folder is not None and (self.step % self.options.save_every == 0 or ends):
                        self.save(folder)
        except KeyboardInterrupt:
            if folder is not None:
                self.save(folder)
            raise
        finally:
            if writer is not None:
                writer.close()
        return loss

    def _measure(self, held_out: HeldOut | None) -> tuple[HeldOutRecord | None, PlayRecord | None]:
        """Return the measurements after this update; all processes learn whether to stop."""
        last = self.step == self.options.steps
        if held_out is None or not held_out.due(self.step, last):
            return None, None
        measured = held_out(self.averaged, self.step, last) if self.is_main else (None, None)
        if self._accelerator.num_processes > 1:
            stopped = [held_out.stopped]
            broadcast_object_list(stopped)
            held_out.stopped = bool(stopped[0])
        return measured

    def _writer(self, folder: Path | None) -> Any:  # noqa: ANN401 (TensorBoard is not imported without need)
        if folder is None or not self.options.tensorboard or not self.is_main:
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder / "tensorboard"), purge_step=self.step + 1)

    def _tell(self, record: TrainingRecord, report: Callable[[TrainingRecord], None] | None, writer: Any) -> None:  # noqa: ANN401
        if not self.is_main:
            return
        if report is not None:
            report(record)
        if writer is not None:
            writer.add_scalar("loss/all", record.loss, record.step)
            for name, value in record.parts.items():
                writer.add_scalar(f"loss/{name}", value, record.step)
            if record.held_out is not None:
                writer.add_scalar("held_out/loss", record.held_out.loss, record.step)
                writer.add_scalar("held_out/relative_action_error", record.held_out.relative, record.step)
            if record.played is not None:
                writer.add_scalar("played/success", record.played.successes / record.played.scenes, record.step)
            writer.add_scalar("learning_rate", self._schedule.get_last_lr()[0], record.step)

    def _batches(self, source: BatchSource, end: int) -> Iterator[Batch]:
        """Yield this process's parts of the batches of all updates until `end`, in order."""
        rank, pieces = self._accelerator.process_index, self.options.grad_accum_steps
        parts = pieces * self._accelerator.num_processes
        keys = [(update, rank * pieces + piece, parts) for update in range(self.step, end) for piece in range(pieces)]
        if not self.options.workers:
            return (source.batch(*key) for key in keys)
        loader: DataLoader[Batch] = DataLoader(
            _PartDataset(source),
            batch_size=None,
            sampler=keys,
            num_workers=self.options.workers,
            collate_fn=_as_it_is,
            prefetch_factor=4,
        )
        return iter(loader)

    def _update(self, batches: Iterator[Batch]) -> tuple[float, dict[str, float]]:
        accelerator, pieces = self._accelerator, self.options.grad_accum_steps
        self._objective.train()
        self._optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        told: dict[str, float] = {}
        for piece in range(pieces):
            part = accelerator.process_index * pieces + piece
            batch = to_device(next(batches), self.device)
            torch.manual_seed(_seed_of(self.options.seed, self.step, part))
            last = piece == pieces - 1
            with nullcontext() if last else accelerator.no_sync(self._objective):
                loss, one = self._objective(batch)
                if not torch.isfinite(loss):
                    raise VlaError(
                        f"the loss is {loss.item()} at step {self.step}; lower the learning rate or check the data"
                    )
                accelerator.backward(loss / pieces)
            total += loss.detach().float() / pieces
            told = {name: told.get(name, 0.0) + value / pieces for name, value in one.items()}
        for length, parameters in self._ends:
            if self.step >= length:  # finished parameters must affect neither the optimizer nor the gradient norm
                for parameter in parameters:
                    parameter.grad = None
        accelerator.clip_grad_norm_(self._trained, self.options.max_grad_norm)
        self._optimiser.step()
        self._schedule.step()
        self._average()
        return float(accelerator.reduce(total, reduction="mean")), told

    def _average(self) -> None:
        decay = min(self.options.ema_decay, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(new, 1.0 - decay)
            for buffer, newest in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
                buffer.copy_(newest)

    def save(self, folder: Path) -> None:
        """Write the state for `resume`; a half-written file never replaces a complete one."""
        if not self.is_main:
            return
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / (STATE_FILE + ".partial")
        scaler = self._accelerator.scaler
        torch.save(
            {
                "step": self.step,
                "belongs_to": json.dumps(self.belongs_to),
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "schedule": self._schedule.state_dict(),
                "scaler": {} if scaler is None else scaler.state_dict(),
            },
            unfinished,
        )
        unfinished.replace(folder / STATE_FILE)

    def resume(self, folder: Path) -> bool:
        """Continue from a saved state; return False if there is none.

        Raises:
            VlaError: when it is damaged, of another network, or of another provenance, naming the differences.
        """
        path = folder / STATE_FILE
        if not path.exists():
            return False
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            before = json.loads(state.get("belongs_to", "{}"))  # states of earlier versions lack it
            if differences := setting_differences(before, self.belongs_to):
                raise VlaError(
                    f"{path} belongs to another training: {'; '.join(differences)}; bring back what it began with, "
                    "give another folder, or remove it to begin anew"
                )
            self.network.load_state_dict(state["network"])
            self.averaged.load_state_dict(state["averaged"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._schedule.load_state_dict(state["schedule"])
            if self._accelerator.scaler is not None and state["scaler"]:
                self._accelerator.scaler.load_state_dict(state["scaler"])
            self.step = int(state["step"])
        except VlaError:
            raise
        except Exception as error:  # torch and zipfile raise their own types
            raise VlaError(
                f"{path} does not continue this training ({type(error).__name__}: {error}); "
                "remove it, or give another folder"
            ) from error
        return True


class _PartDataset(Dataset[Any]):
    """Batch source as a dataset whose index is (update, part, parts)."""

    def __init__(self, source: BatchSource) -> None:
        self._source = source

    def __getitem__(self, key: tuple[int, int, int]) -> Batch:
        return self._source.batch(*key)


def _as_it_is(batch: Batch) -> Batch:
    return batch


class _Objective(nn.Module):
    """Network and loss as one module: gradients are averaged across processes for what passes through `forward`."""

    def __init__(self, network: VlaModel, objective: Objective | None) -> None:
        super().__init__()
        self.network = network
        self._objective = objective or own_loss

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return self._objective(self.network, batch)


def own_loss(network: VlaModel, batch: tuple[ModelInput, ModelTarget]) -> tuple[Tensor, dict[str, float]]:
    """Return the network's own loss (behavioral cloning)."""
    return network.compute_loss(*batch)


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return `batch` with every tensor on `device`; recurses into tuples, mappings and dataclasses."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, tuple):
        return tuple(to_device(value, device) for value in batch)
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    if hasattr(batch, "__dataclass_fields__"):
        return type(batch)(**{name: to_device(value, device) for name, value in vars(batch).items()})
    return batch
