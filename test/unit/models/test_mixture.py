"""The mixture against torch.distributions, closed forms, and its own samples."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, MixtureSameFamily, Normal

from vla_ros.models.layers.mixture import ActionMixture


def mixture(shape=(2, 3), plans=4, rows=5):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(*shape, *size, generator=generator)

    return ActionMixture(draw(plans), draw(plans, rows, 6), draw(plans, rows, 6).exp(), draw(plans, rows, 1))


def chunk(shape=(2, 3), rows=5):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(*shape, rows, 7, generator=generator)
    return torch.cat([values[..., :6], values[..., 6:].sign()], dim=-1)


def test_one_standard_plan_by_hand():
    one = ActionMixture(torch.zeros(1), torch.zeros(1, 2, 6), torch.ones(1, 2, 6), torch.zeros(1, 2, 1))
    actions = torch.zeros(2, 7)
    actions[0, 0], actions[0, 6], actions[1, 6] = 2.0, 1.0, -1.0
    # 12 standard normals, one of them at 2; two fair coins.
    assert one.log_prob(actions).item() == pytest.approx(-6 * math.log(2 * math.pi) - 2.0 - 2 * math.log(2), rel=1e-6)


def test_the_density_is_that_of_torch_distributions():
    found, actions = mixture(), chunk()
    weights = Categorical(logits=found.weights)
    for opened in (1.0, -1.0):
        actions[..., 6] = opened
        # With the gripper the same in all rows, its probabilities belong to the weights.
        coins = Bernoulli(logits=found.binary).log_prob(torch.full_like(found.binary, (opened + 1) / 2)).sum((-2, -1))
        joint = weights.logits + coins
        scale = joint.logsumexp(-1)
        normals = Independent(Normal(found.means, found.stds), 2)
        expected = MixtureSameFamily(Categorical(logits=joint), normals).log_prob(actions[..., :6]) + scale
        torch.testing.assert_close(found.log_prob(actions), expected, rtol=1e-5, atol=1e-4)


def test_responsibilities_by_bayes():
    found, actions = mixture(), chunk()
    parts = [
        ActionMixture(
            torch.zeros_like(found.weights[..., :1]),
            found.means[..., k : k + 1, :, :],
            found.stds[..., k : k + 1, :, :],
            found.binary[..., k : k + 1, :, :],
        ).log_prob(actions)
        for k in range(4)
    ]
    joint = torch.stack(parts, dim=-1).double()
    joint = (joint - joint.amax(-1, keepdim=True)).exp() * found.weights.softmax(-1).double()
    expected = (joint / joint.sum(-1, keepdim=True)).float()
    torch.testing.assert_close(found.responsibilities(actions), expected, rtol=1e-3, atol=1e-5)


def test_gradients_by_finite_differences():
    actions = chunk((1,), 2).double()
    size = [
        torch.randn(1, 2, dtype=torch.float64),
        torch.randn(1, 2, 2, 6, dtype=torch.float64),
        torch.rand(1, 2, 2, 6, dtype=torch.float64) + 0.5,
        torch.randn(1, 2, 2, 1, dtype=torch.float64),
    ]
    for values in size:
        values.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *parts: ActionMixture(*parts).log_prob(actions), size, eps=1e-3, atol=1e-2, rtol=1e-2
    )  # computed in fp32


def test_samples_have_the_moments_of_the_mixture():
    count = 20_000
    weights = torch.tensor([0.25, 0.75]).log().expand(count, 2)
    means = torch.tensor([-2.0, 1.0])[:, None, None].expand(count, 2, 3, 6)
    found = ActionMixture(
        weights,
        means,
        torch.full((count, 2, 3, 6), 0.5),
        torch.tensor([30.0, -30.0])[:, None, None].expand(count, 2, 3, 1),
    )
    samples = found.sample(torch.Generator().manual_seed(0))
    assert samples.shape == (count, 3, 7)
    first = samples[:, 0, 6] > 0  # the first plan opens, the second closes
    assert first.float().mean().item() == pytest.approx(0.25, abs=0.015)  # 4 deviations: 0.012
    assert (samples[..., 6] == samples[:, :1, 6]).all()  # one plan for all rows
    assert samples[first][..., :6].mean().item() == pytest.approx(-2.0, abs=0.01)
    assert samples[~first][..., :6].mean().item() == pytest.approx(1.0, abs=0.01)
    assert samples[~first][..., :6].std().item() == pytest.approx(0.5, abs=0.01)


def test_one_seed_draws_one_chunk():
    found = mixture()
    draws = [found.sample(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert draws[0].equal(draws[1])
    assert not draws[0].equal(draws[2])


def test_the_likeliest_plan_is_the_heaviest():
    found = mixture()
    means, binary = found.most_likely()
    for i in range(2):
        for j in range(3):
            k = int(found.weights[i, j].argmax())
            assert means[i, j].equal(found.means[i, j, k])
            assert binary[i, j].equal(found.binary[i, j, k])
