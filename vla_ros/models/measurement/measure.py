"""Measures size, latency and memory of a network on this machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vla_ros.errors import ContractError
from vla_ros.models.batch import ModelInput, ModelTarget
from vla_ros.models.build import build_model, model_class, sized_config
from vla_ros.models.columns import ActionColumns
from vla_ros.models.contract import VlaModel
from vla_ros.models.measurement.footprint import PeakMemory

CELL = {"front": (96, 128), "wrist": (96, 128)}
"""Camera images of the simulated workcell at the size for the tiny networks, (height, width) px."""
VOCABULARY, STATE_WIDTH, HORIZON, WORDS = 32, 10, 12, 8
TRAINED_SCENES = 8
MEGABYTE, GIGABYTE = 1e6, 1e9


@dataclass(frozen=True)
class Figures:
    """Measurements of a network; memory is the peak.

    Attributes:
        parameters: Number of trainable parameters.
        act_ms: Time for one chunk, one scene and one instruction, the fastest run: on a busy machine slower runs mostly
            measure its other load.
        act_median_ms: Median of the runs.
        step_ms: Fastest training step, forward and backward, of `TRAINED_SCENES` scenes; None if not measured.
        weights_mb: Memory of the weights.
        act_mb: Memory for one chunk besides the weights.
        step_mb: Memory for a training step besides the weights, including gradients; None if not measured.
        plain_step_mb: The same without gradient checkpointing, for a network that supports it.
        full_parameters: Number of parameters at full size.
    """

    parameters: int
    act_ms: float
    act_median_ms: float
    step_ms: float | None
    weights_mb: float
    act_mb: float
    step_mb: float | None
    plain_step_mb: float | None
    full_parameters: int


def configuration(name: str, size: str) -> dict[str, Any]:
    """Return the configuration of the network `name` at `size`, for the workcell's data; "full" has its own data sizes.

    Raises:
        ContractError: for an unknown name or size.
    """
    if size == "full":
        return dict(model_class(name).full_config())
    needed = {"cameras": dict(CELL), "vocabulary": VOCABULARY, "state_width": STATE_WIDTH, "horizon": HORIZON}
    return sized_config(name, size, needed)


def example(
    config: Mapping[str, Any], scenes: int, device: torch.device, precision: torch.dtype = torch.float32
) -> tuple[ModelInput, ModelTarget]:
    """Return random scenes with one instruction each, and random targets."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, precision)

    words = min(WORDS, int(config.get("words", WORDS)))
    horizon = int(config["horizon"])
    columns = ActionColumns.from_dict(config["action"]) if "action" in config else ActionColumns()
    inputs = ModelInput(
        {n: torch.rand(scenes, 3, *s, generator=generator).to(device, precision) for n, s in config["cameras"].items()},
        normal(scenes, int(config["state_width"])),
        torch.randint(2, int(config["vocabulary"]), (scenes, 1, words), generator=generator).to(device),
    )
    one = torch.ones(scenes, 1, device=device, dtype=precision)
    return inputs, ModelTarget(
        normal(scenes, 1, horizon, columns.continuous),
        one[..., None, None].expand(-1, -1, horizon, columns.binary),
        one,
        normal(scenes, 1, 3),
        {n: one[..., None].expand(-1, -1, 2) / 2 for n in config["cameras"]},
    )


def measure(
    name: str,
    size: str,
    device: torch.device,
    seconds: float = 1.0,
    train: bool = True,
    precision: torch.dtype = torch.float32,
) -> Figures:
    """Build the network `name` with random weights and measure it, for about `seconds` per measurement.

    Raises:
        ContractError: when name or size are unknown, libraries are missing, or the weights exceed the memory.
    """
    config = configuration(name, size)
    _check_memory(name, config, device)
    torch.manual_seed(0)
    network: VlaModel = build_model(name, config).to(device, precision)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    inputs, _ = example(config, 1, device, precision)
    network.eval()
    with torch.inference_mode():
        acts = _times_ms(lambda: network.predict(inputs), device, seconds)
        with PeakMemory() as acting:
            network.predict(inputs)
    step_ms = step_mb = plain = None
    if train:
        batch = example(config, TRAINED_SCENES, device, precision)
        step_ms = min(_times_ms(lambda: _step(network, batch), device, seconds))
        step_mb = _step_mb(network, batch)
        if hasattr(network.config, "checkpointing"):
            plain = _step_mb(build_model(name, {**config, "checkpointing": False}).to(device, precision), batch)
    return Figures(
        parameters=network.parameter_count,
        act_ms=min(acts),
        act_median_ms=statistics.median(acts),
        step_ms=step_ms,
        weights_mb=weights / MEGABYTE,
        act_mb=acting.peak / MEGABYTE,
        step_mb=step_mb,
        plain_step_mb=plain,
        full_parameters=full_parameters(name),
    )


def _check_memory(name: str, config: Mapping[str, Any], device: torch.device) -> None:
    """Raise when the fp32 weights alone exceed the free memory: out of memory, the system would kill the process."""
    with torch.device("meta"):
        network: VlaModel = build_model(name, config)
    needed = sum(4 * p.numel() for p in network.parameters())
    free = free_memory(torch.device("cpu"))
    if device.type == "cuda":
        free = free_memory(device) if free is None else min(free, free_memory(device) or free)
    if free is not None and needed > free:
        raise ContractError(f"the weights need {needed / GIGABYTE:.1f} GB, {free / GIGABYTE:.1f} GB are free")


def free_memory(device: torch.device) -> int | None:
    """Return the free memory of `device`, bytes; None if the system does not report it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None


def describe_machine(device: torch.device) -> str:
    """Return processor, cores, threads, versions and load, in one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    words = [f"{processor}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"]
    if device.type == "cuda":
        words.append(torch.cuda.get_device_name(device))
    words.append(f"Python {platform.python_version()}, PyTorch {torch.__version__}")
    if hasattr(os, "getloadavg"):
        words.append(f"load {os.getloadavg()[0]:.1f}")
    return ", ".join(words)


def _step(network: VlaModel, batch: tuple[ModelInput, ModelTarget]) -> None:
    network.train()
    network.zero_grad(set_to_none=True)
    network.compute_loss(*batch)[0].backward()


def _step_mb(network: VlaModel, batch: tuple[ModelInput, ModelTarget]) -> float:
    network.zero_grad(set_to_none=True)
    with PeakMemory() as memory:
        _step(network, batch)
    peak: int = memory.peak  # PyTorch does not say what it enters
    return peak / MEGABYTE


def full_parameters(name: str) -> int:
    """Return the number of parameters at full size, without allocating them."""
    with torch.device("meta"):
        network: VlaModel = build_model(name, configuration(name, "full"))
    return network.parameter_count


def _times_ms(run: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Return run times, ms, of at least three runs after one warm-up run."""
    run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        _finish(device)
        begin = time.perf_counter()
        run()
        _finish(device)
        times.append(time.perf_counter() - begin)
    return [1000.0 * taken for taken in times]


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
