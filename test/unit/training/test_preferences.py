"""A reward that was hidden is found from comparisons, and the policy climbs it no further than its anchor lets it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from vla_ros.errors import VlaError
from vla_ros.models.contract import ModelInput, ModelOutput
from vla_ros.training.algorithms.preferences import Experience, PolicyGradient, advantages, cut_clips
from vla_ros.training.algorithms.rewards import Comparison, PairBatches, RewardModel, preference_loss
from vla_ros.training.loop import TrainingLoop
from vla_ros.training.loop_options import LoopOptions

CPU = torch.device("cpu")
QUICK = LoopOptions(steps=300, learning_rate=5e-3, warm_up=10, weight_decay=0.0, ema_decay=0.9)


def _clips(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips of random steps; the hidden reward of a step is its first number less the square of its second."""
    steps = np.random.default_rng(seed).normal(size=(count, 5, 3)).astype(np.float32)
    return steps, (steps[..., 0] - steps[..., 1] ** 2).sum(axis=1).astype(np.float32)


def test_the_loss_is_bradley_and_terry_s_by_hand() -> None:
    class First(nn.Module):
        def forward(self, steps: torch.Tensor) -> torch.Tensor:
            return steps[..., 0]

    pairs = Comparison(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[0.5], [0.5]]]), torch.tensor([1.0]))
    loss, parts = preference_loss(First(), pairs)
    assert float(loss) == pytest.approx(np.log(1.0 + np.exp(-(3.0 - 1.0)))) and parts["agreed"] == 1.0
    other, _ = preference_loss(First(), Comparison(pairs.second, pairs.first, pairs.better))
    assert float(other) == pytest.approx(np.log(1.0 + np.exp(2.0)))


def test_a_hidden_reward_is_found_from_comparisons_alone() -> None:
    clips, scores = _clips(400, 0)
    torch.manual_seed(0)
    loop = TrainingLoop(RewardModel(3), QUICK, CPU, preference_loss)
    loop.run(PairBatches(clips, scores, 2000, 64, 0))
    steps = np.random.default_rng(9).normal(size=(500, 3)).astype(np.float32)
    with torch.no_grad():
        output = loop.averaged(torch.from_numpy(steps)).numpy()
    true = steps[:, 0] - steps[:, 1] ** 2
    assert np.corrcoef(output, true)[0, 1] > 0.9
    # Turned comparisons teach the opposite: the labels are what it learns from.
    torch.manual_seed(0)
    turned = TrainingLoop(RewardModel(3), QUICK, CPU, preference_loss)
    turned.run(PairBatches(clips, -scores, 2000, 64, 0))
    with torch.no_grad():
        assert np.corrcoef(turned.averaged(torch.from_numpy(steps)).numpy(), true)[0, 1] < -0.9


def test_ties_are_not_compared() -> None:
    clips, scores = _clips(20, 1)
    with pytest.raises(VlaError, match="no difference"):
        PairBatches(clips, np.zeros_like(scores), 10, 4, 0)
    pairs = PairBatches(clips, np.sign(scores), 100, 4, 0)
    assert (np.sign(scores)[pairs.first] != np.sign(scores)[pairs.second]).all()


class Line(nn.Module):
    """A policy whose chunk of two rows is a linear function of the state: small enough to check by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.register_buffer("nothing", torch.zeros(1))

    def predict(self, inputs: ModelInput) -> ModelOutput:
        rows = self.layer(inputs.state)[:, None, None].expand(-1, 1, 2, -1)
        return ModelOutput(torch.cat([rows, torch.zeros_like(rows)], dim=-1), torch.zeros(len(inputs.state), 1, 2, 1))


SIGMA = 0.3


class Played:
    """Steps of a policy that explores; what is better than usual is to move along the first axis."""

    def __init__(self, policy: Line, sign: float = 1.0) -> None:
        rng = np.random.default_rng(0)
        self.states = torch.from_numpy(rng.normal(size=(600, 2)).astype(np.float32))
        with torch.no_grad():
            mean = policy.predict(self._given(slice(None))).continuous[:, 0, :, :3].mean(dim=1)
        self.explored = mean + SIGMA * torch.from_numpy(rng.normal(size=(600, 3)).astype(np.float32))
        self.advantage = sign * (self.explored - mean)[:, 0] / SIGMA

    def _given(self, index: object) -> ModelInput:
        states = self.states[index]  # type: ignore[index]
        return ModelInput({}, states, torch.zeros(len(states), 1, 1, dtype=torch.long))

    def batch(self, update: int, part: int, parts: int) -> Experience:
        index = np.random.default_rng(update).integers(600, size=64)[part::parts]
        return Experience(self._given(index), self.explored[index], self.advantage[index])


def _climbed(anchor: float, sign: float = 1.0, steps: int = 300) -> torch.Tensor:
    """Return how far the policy's mean has moved, (3,), over the states."""
    torch.manual_seed(0)
    before = Line()
    network = copy.deepcopy(before)
    options = LoopOptions(
        steps=steps, learning_rate=1e-2, warm_up=0, schedule="constant", weight_decay=0.0, ema_decay=0.0
    )
    objective = PolicyGradient(copy.deepcopy(before), copy.deepcopy(before), SIGMA, anchor)
    TrainingLoop(network, options, CPU, objective).run(Played(before, sign))  # type: ignore[arg-type]
    states = torch.randn(200, 2, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        return (network.layer(states) - before.layer(states)).mean(dim=0)


def test_it_climbs_along_what_was_better_and_only_there() -> None:
    moved, back = _climbed(0.05), _climbed(0.05, sign=-1.0)
    assert float(moved[0]) > 0.02 and float(moved[1:].abs().max()) < 0.3 * float(moved[0])
    assert float(back[0]) < -0.02


def test_the_anchor_holds_it() -> None:
    free, held, chained = (float(_climbed(anchor)[0]) for anchor in (0.0, 0.2, 100.0))
    assert free > held > chained and chained < 0.15 * free


def test_at_first_the_gradient_is_that_of_williams() -> None:
    """At the policy that played: d/dmu = A (u - mu) / sigma^2, and the ratio is one."""
    torch.manual_seed(0)
    network = Line()
    batch = Played(network).batch(0, 0, 1)
    objective = PolicyGradient(copy.deepcopy(network), copy.deepcopy(network), SIGMA, 0.0)
    loss, parts = objective(network, batch)
    loss.backward()
    with torch.no_grad():
        mean = network.predict(batch.inputs).continuous[:, 0, :, :3].mean(dim=1)
        target = -(batch.advantage[:, None] * (batch.explored - mean) / SIGMA**2).mean(dim=0)
    torch.testing.assert_close(network.layer.bias.grad, target)
    assert parts["gain"] == pytest.approx(float(batch.advantage.mean())) and parts["divergence"] == 0.0


def test_clips_and_scores_by_hand() -> None:
    features = [np.arange(10, dtype=np.float32)[:, None]]
    clips, scores = cut_clips(features, [np.arange(10, dtype=np.float32) ** 2], 6)
    assert clips.shape == (3, 6, 1) and clips[1, 0, 0] == 2.0
    np.testing.assert_allclose(scores, [25.0, 49 - 4, 81 - 16])
    with pytest.raises(VlaError, match="no episode has 11 steps"):
        cut_clips(features, [np.zeros(10, np.float32)], 11)


def test_advantages_compare_episodes_at_the_same_step() -> None:
    good, bad = np.ones(3, np.float32), np.zeros(3, np.float32)
    values = advantages([good, bad])
    assert (values[:3] > 0).all() and (values[3:] < 0).all()
    np.testing.assert_allclose(values[:3], -values[3:])
    assert values[0] / values[2] == pytest.approx(1.0 + 0.9 + 0.81, rel=1e-5)


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(VlaError, match="sigma 0"):
        PolicyGradient(Line(), Line(), 0.0, 0.1)  # type: ignore[arg-type]
