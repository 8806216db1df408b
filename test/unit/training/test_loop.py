"""The loop goes on exactly where it stopped, and learns the same from a batch in pieces or in several processes."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.errors import VlaError
from vla_ros.models.build import build_model
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.training.activations import checkpoint_activations
from vla_ros.training.datasets.source import SeededBatches
from vla_ros.training.loop import TrainingLoop, TrainingRecord
from vla_ros.training.loop_options import LoopOptions, ParamGroupOptions, belongs

CPU = torch.device("cpu")
SIZES = {"cameras": {"front": (32, 32)}, "vocabulary": 9, "state_width": 10, "horizon": 4}
OPTIONS = LoopOptions(steps=4, learning_rate=1e-3, warm_up=2, save_every=2, report_every=1)
TOLERANCE = 1e-6
"""In float64. Adam divides by the size of a gradient, so that the rounding of float32, which is another one on every
processor, moves a weight whose gradient is nearly zero by up to the learning rate."""


class Invented:
    """Rows drawn by their generators; what is learned does not matter here."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self._dtype = dtype

    def rows(self, generators: list[np.random.Generator], update: int) -> tuple[ModelInput, ModelTarget]:
        def draw(*shape: int) -> torch.Tensor:
            drawn = torch.from_numpy(np.stack([rng.random(shape, dtype=np.float32) for rng in generators]))
            return drawn.to(self._dtype)

        tokens = torch.from_numpy(np.stack([rng.integers(2, 9, (2, 5)) for rng in generators]))
        inputs = ModelInput({"front": draw(3, 32, 32)}, draw(10), tokens)
        return inputs, ModelTarget(draw(2, 4, 6), draw(2, 4, 1), draw(2) * 0 + 1, draw(2, 3), {"front": draw(2, 2)})


def network(name: str = "keypoint", **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(name, {**SIZES, **options})


def source(size: int = 8, dtype: torch.dtype = torch.float32) -> SeededBatches:
    return SeededBatches(Invented(dtype), size, seed=3)


def weights(loop: TrainingLoop) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in [*loop.network.parameters(), *loop.averaged.parameters()]])


def trained(options: LoopOptions = OPTIONS, model: torch.nn.Module | None = None) -> torch.Tensor:
    loop = TrainingLoop(model or network(), options, CPU)
    loop.run(source())
    return weights(loop)


def trained_exactly(options: LoopOptions = OPTIONS) -> torch.Tensor:
    """Return the weights after a training in float64."""
    loop = TrainingLoop(network().double(), options, CPU)
    loop.run(source(dtype=torch.float64))
    return weights(loop)


@pytest.mark.parametrize("name", ["keypoint", "diffusion"])  # diffusion draws noise of its own
def test_a_resumed_run_ends_bit_for_bit_where_a_straight_one_does(name: str, tmp_path: Path) -> None:
    straight = TrainingLoop(network(name), OPTIONS, CPU)
    straight.run(source())
    TrainingLoop(network(name), OPTIONS, CPU).run(source(), tmp_path, until=2)
    torch.manual_seed(1234)
    resumed = TrainingLoop(network(name), OPTIONS, CPU)
    assert resumed.resume(tmp_path) and resumed.step == 2
    resumed.run(source())
    assert torch.equal(weights(resumed), weights(straight))


def test_there_is_nothing_to_resume_or_it_is_another_training(tmp_path: Path) -> None:
    assert not TrainingLoop(network(), OPTIONS, CPU).resume(tmp_path / "nowhere")
    TrainingLoop(network(), OPTIONS, CPU).run(source(), tmp_path, until=1)
    with pytest.raises(VlaError, match="does not continue this training"):
        TrainingLoop(network(hidden=64), OPTIONS, CPU).resume(tmp_path)
    (tmp_path / "training_state.pt").write_bytes(b"half a file")
    with pytest.raises(VlaError, match="remove it"):
        TrainingLoop(network(), OPTIONS, CPU).resume(tmp_path)


def test_pieces_of_a_batch_teach_what_the_batch_teaches() -> None:
    exact = trained_exactly()
    torch.testing.assert_close(trained_exactly(replace(OPTIONS, grad_accum_steps=4)), exact, rtol=0, atol=TOLERANCE)
    other = trained_exactly(replace(OPTIONS, learning_rate=2e-3))
    assert float((other - exact).abs().max()) > 500 * TOLERANCE  # the tolerance means something


def test_pieces_are_averaged_and_not_added() -> None:
    """Adam does not care for the scale of a gradient, so look at the gradient itself."""

    def gradient(pieces: int) -> torch.Tensor:
        loop = TrainingLoop(network(), replace(OPTIONS, grad_accum_steps=pieces, max_grad_norm=1e9), CPU)
        loop.run(source(), until=1)
        return torch.cat([p.grad.flatten() for p in loop.network.parameters() if p.grad is not None])

    torch.testing.assert_close(gradient(4), gradient(1), rtol=1e-3, atol=1e-6)


def test_batches_drawn_ahead_by_other_processes_are_the_same() -> None:
    assert torch.equal(
        trained(replace(OPTIONS, workers=2, grad_accum_steps=2)), trained(replace(OPTIONS, grad_accum_steps=2))
    )


@pytest.mark.parametrize("name", ["keypoint", "diffusion"])
def test_forgotten_activations_change_no_gradient_and_are_not_kept(name: str) -> None:
    batch = source().batch(0, 0, 1)

    def gradients(model: torch.nn.Module) -> tuple[torch.Tensor, int]:
        kept: list[int] = []

        def note(tensor: torch.Tensor) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        torch.manual_seed(5)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss, _ = model.compute_loss(*batch)
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), sum(kept)

    plain, forgetful = network(name), network(name)
    assert checkpoint_activations(forgetful) >= 1
    target, most = gradients(plain.train())
    got, fewer = gradients(forgetful.train())
    torch.testing.assert_close(got, target, rtol=1e-5, atol=1e-7)
    assert fewer < 0.8 * most


def test_the_rate_warms_up_and_falls_as_a_cosine() -> None:
    seen: list[float] = []
    loop = TrainingLoop(network(), replace(OPTIONS, steps=12, warm_up=4), CPU)
    for step in range(12):
        seen.append(loop._schedule.get_last_lr()[0])
        loop.run(source(), until=step + 1)
    np.testing.assert_allclose(seen[:4], [2.5e-4, 5e-4, 7.5e-4, 1e-3], rtol=1e-9)
    share = np.arange(8) / 8
    np.testing.assert_allclose(seen[4:], 1e-3 * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * share))), rtol=1e-9)


def test_the_average_follows_by_hand() -> None:
    loop = TrainingLoop(network(), replace(OPTIONS, ema_decay=0.9), CPU)
    target = [p.detach().clone() for p in loop.network.parameters()]
    for step in range(3):
        loop.run(source(), until=step + 1)
        decay = min(0.9, (1 + step) / (10 + step))
        target = [decay * w + (1 - decay) * p.detach() for w, p in zip(target, loop.network.parameters(), strict=True)]
    for one, other in zip(loop.averaged.parameters(), target, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_gradients_are_clipped() -> None:
    """Plain descent would move by at most rate * clip; AdamW does not care for the scale, so look at the gradient."""
    loop = TrainingLoop(network(), replace(OPTIONS, max_grad_norm=1e-3), CPU)
    loop.run(source(), until=1)
    norm = torch.cat([p.grad.flatten() for p in loop.network.parameters() if p.grad is not None]).norm()
    assert float(norm) <= 1.001e-3


def test_half_precision_computes_in_half_precision_and_learns() -> None:
    kinds: list[torch.dtype] = []
    model = network()
    model.plan[0].register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    loop = TrainingLoop(model, replace(OPTIONS, precision="bf16", steps=30), CPU)
    losses: list[TrainingRecord] = []
    loop.run(source(), None, losses.append)
    assert set(kinds) == {torch.bfloat16} and all(p.dtype == torch.float32 for p in model.parameters())
    assert losses[-1].loss < losses[0].loss


def test_a_loss_that_is_not_finite_ends_the_training_and_saves_nothing(tmp_path: Path) -> None:
    def poisoned(model: torch.nn.Module, batch: object) -> tuple[torch.Tensor, dict[str, float]]:
        return next(model.parameters()).sum() * float("nan"), {}

    with pytest.raises(VlaError, match="the loss is nan at step 0"):
        TrainingLoop(network(), OPTIONS, CPU, poisoned).run(source(), tmp_path)
    assert not (tmp_path / "training_state.pt").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"schedule": "line"}, "schedule is 'line'"),
        ({"precision": "int8"}, "precision"),
        ({"steps": 0}, "steps is 0"),
        ({"grad_accum_steps": 0}, "grad_accum_steps"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
    ],
)
def test_options_that_make_no_sense_are_refused(line: dict[str, object], says: str) -> None:
    with pytest.raises(VlaError, match=says):
        replace(OPTIONS, **line)
    with pytest.raises(VlaError, match="cannot be shared by 3"):
        source(8).batch(0, 0, 3)


def test_curves_reach_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records: list[TrainingRecord] = []
    TrainingLoop(network(), replace(OPTIONS, tensorboard=True), CPU).run(source(), tmp_path, records.append)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    told = [(event.step, event.value) for event in events.Scalars("loss/all")]
    assert told == [(r.step, pytest.approx(r.loss, rel=1e-6)) for r in records] and len(told) == 4


TWO = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import test_loop
torch.set_num_threads(1)
loop = test_loop.TrainingLoop(test_loop.network().double(), test_loop.OPTIONS, test_loop.CPU)
assert loop._accelerator.num_processes == 2, loop._accelerator.num_processes
loop.run(test_loop.source(dtype=torch.float64))
if loop.is_main:
    torch.save(test_loop.weights(loop), sys.argv[2])
"""


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    script, result = tmp_path / "two.py", tmp_path / "weights.pt"
    script.write_text(TWO)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        str(script),
        str(Path(__file__).parent),
        str(result),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    torch.testing.assert_close(torch.load(result, weights_only=True), trained_exactly(), rtol=0, atol=TOLERANCE)


def test_a_source_that_gives_every_process_the_same_rows_would_be_seen() -> None:
    """What the comparison above is worth: half the batch twice does not teach what the batch teaches."""

    class Half(SeededBatches):
        def batch(self, update: int, part: int, parts: int) -> tuple[ModelInput, ModelTarget]:
            return super().batch(update, 0, 2)

    loop = TrainingLoop(network().double(), OPTIONS, CPU)
    loop.run(Half(Invented(torch.float64), 8, seed=3))
    assert float((weights(loop) - trained_exactly()).abs().max()) > 500 * TOLERANCE


def test_the_average_is_a_copy() -> None:
    loop = TrainingLoop(network(), OPTIONS, CPU)
    before = copy.deepcopy(loop.averaged.state_dict())
    with torch.no_grad():
        next(loop.network.parameters()).add_(1.0)
    for name, tensor in loop.averaged.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_part_is_trained_for_its_own_number_of_updates(tmp_path: Path) -> None:
    """The part is what it is after two updates of four, resumed or not; the rest goes on."""
    model = network()
    part = next(name for name, _ in model.named_children())
    options = replace(OPTIONS, ema_decay=0.0, param_groups={part: ParamGroupOptions(steps=2, weight_decay=0.5)})
    kept: dict[int, dict[str, torch.Tensor]] = {}
    for until in (2, 4):
        loop = TrainingLoop(network(), options, CPU)
        loop.resume(tmp_path)
        loop.run(source(), tmp_path, until=until)
        kept[until] = {name: p.detach().clone() for name, p in loop.network.named_parameters()}
    begun = dict(network().named_parameters())
    for name, weight in kept[4].items():
        if belongs(name, part):
            assert torch.equal(weight, kept[2][name]) and not torch.equal(weight, begun[name])
        else:
            assert not torch.equal(weight, kept[2][name])


def test_a_part_decays_as_it_should_and_an_unknown_one_is_named() -> None:
    part = next(name for name, _ in network().named_children())

    def size(decay: float) -> float:
        loop = TrainingLoop(
            network(), replace(OPTIONS, learning_rate=0.1, param_groups={part: ParamGroupOptions(4, decay)}), CPU
        )
        loop.run(source())
        return float(sum(p.detach().square().sum() for n, p in loop.network.named_parameters() if belongs(n, part)))

    assert size(5.0) < 0.8 * size(0.0)
    with pytest.raises(VlaError, match="no part 'ears' can be trained, only"):
        TrainingLoop(network(), replace(OPTIONS, param_groups={"ears": ParamGroupOptions(1)}), CPU)
    with pytest.raises(VlaError, match="steps -1"):
        ParamGroupOptions(-1)
    every = {name: ParamGroupOptions(0) for name, _ in network().named_children()}
    with pytest.raises(VlaError, match="no parameter that training may change"):
        TrainingLoop(network(), replace(OPTIONS, param_groups=every), CPU)
