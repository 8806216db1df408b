"""The foundation network beyond what all keep: its distribution, the order of its rows, its full size."""

import pytest
import torch

from vla_ros.models.networks.foundation import FoundationModel


@pytest.fixture
def network(sizes):
    torch.manual_seed(0)
    return FoundationModel.from_config(FoundationModel.tiny_config(**sizes)).eval()


@pytest.fixture
def memory(network, frames):
    with torch.no_grad():
        return network._encode(frames.inputs)


def test_a_later_row_changes_no_earlier_one(network, memory):
    with torch.no_grad():
        before = network._decode(memory)
        for row in (1, 5, network.config.horizon):
            kept = network.queries[row].clone()
            network.queries[row] = torch.randn(len(kept))
            after = network._decode(memory)
            network.queries[row] = kept
            change = (after - before).abs().amax(dim=(0, 2))
            assert (change[:row] == 0).all()
            assert (change[row:] > 1e-4).all()


def test_fewer_rows_are_the_first_of_more(network, memory):
    with torch.no_grad():
        torch.testing.assert_close(network._decode(memory, rows=3), network._decode(memory)[:, :4])


def test_the_loss_scores_with_the_distribution(network, frames):
    with torch.no_grad():
        _, parts = network.compute_loss(frames.inputs, frames.target)
        density = network.distribution(frames.inputs).log_prob(frames.target.actions())
    there = frames.target.target_visible.bool()
    numbers = frames.target.binary.shape[-2] * 7
    assert parts["actions"] == pytest.approx(-float(density[there].mean()) / numbers, rel=1e-5)


def test_it_acts_as_its_likeliest_plan_and_samples_around_it(network, frames):
    with torch.no_grad():
        found, output = network.distribution(frames.inputs), network.predict(frames.inputs)
    means, binary = found.most_likely()
    torch.testing.assert_close(output.continuous, means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.binary, binary, rtol=1e-4, atol=1e-5)
    sample = found.sample(torch.Generator().manual_seed(0))
    assert sample.shape == frames.target.actions().shape
    assert (found.stds >= network.config.smallest_deviation).all()
    assert torch.isfinite(found.log_prob(sample)).all()


def test_two_ways_become_two_plans(sizes, frames):
    """Half of the demonstrations go the other way: a mean would go between them, the mixture does not."""
    torch.manual_seed(0)
    network = FoundationModel.from_config({**FoundationModel.tiny_config(**sizes), "plans": 2, "hidden_state": 0.0})
    inputs, target = frames.inputs, frames.target
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    side = torch.tensor([1.0, -1.0]).repeat(16)[:, None, None, None]
    straight = torch.cat([torch.ones(3), torch.zeros(3)])
    target = type(target)(side * straight.expand_as(target.continuous), target.binary, target.target_visible)
    blind = type(inputs)(
        {n: torch.zeros_like(i[:8]) for n, i in inputs.images.items()},
        torch.zeros(8, 10),
        inputs.tokens[:1].expand(8, -1, -1),
    )
    target = type(target)(*(getattr(target, f)[:8] for f in ("continuous", "binary", "target_visible")))
    for _ in range(60):
        loss, _ = network.compute_loss(blind, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = network.eval().distribution(blind)
    centres = found.means[0, 0, :, :, :3].mean(dim=(1, 2)).sort().values
    torch.testing.assert_close(centres, torch.tensor([-1.0, 1.0]), rtol=0.0, atol=0.15)
    torch.testing.assert_close(found.weights[0, 0].softmax(-1), torch.tensor([0.5, 0.5]), rtol=0.0, atol=0.1)


def test_the_full_size_is_what_its_parts_add_up_to():
    with torch.device("meta"):
        network = FoundationModel.from_config(FoundationModel.full_config())

    def linear(inputs, outputs):
        return inputs * outputs + outputs

    def block(d, cross=False):  # attention 4 d^2 + 4 d, perceptron 8 d^2 + 5 d, norms 2 d each
        return 12 * d * d + 13 * d + cross * (4 * d * d + 6 * d)

    d = 1024
    images = 768 * (3 * 16 * 16 + 1) + 2 * 14 * 14 * 768 + 12 * block(768) + 2 * 768
    text = 30522 * 768 + 64 * 768 + 12 * block(768) + 2 * 768
    state = linear(10, d) + linear(d, d) + d + d
    fused = 2 * linear(768, d) + 12 * block(d, cross=True) + 2 * 2 * d + 17 * d
    heads = linear(d, 5) + linear(d, 5 * 13) + linear(d, 1) + linear(d, 3)
    assert network.parameter_count == images + text + state + fused + heads
    assert 3.9e8 < network.parameter_count < 4.1e8
