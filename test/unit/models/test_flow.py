import math

import pytest
import torch

from vla_ros.errors import ContractError
from vla_ros.models.contract import ModelInput
from vla_ros.models.networks.flow import FlowModel, between, draw_times, integrate

SMALL = {**FlowModel.tiny_config({"eye": (32, 32)}, 12, 4, 6), "width": 32, "layers": 1}


def build(**changes):
    torch.manual_seed(0)
    return FlowModel.from_config({**SMALL, **changes}).eval()


def scene(count=2):
    generator = torch.Generator().manual_seed(0)
    return ModelInput(
        {"eye": torch.rand(count, 3, 32, 32, generator=generator)},
        torch.randn(count, 4, generator=generator),
        torch.randint(1, 12, (count, 2, 3), generator=generator),
    )


def test_the_path_is_straight_and_its_velocity_is_data_less_noise():
    noise, data = torch.randn(3, 6, 7).double(), torch.randn(3, 6, 7).double()
    time = torch.tensor([0.1, 0.5, 0.9]).double()
    assert torch.equal(between(noise, data, torch.zeros(3).double()), noise)
    assert torch.equal(between(noise, data, torch.ones(3).double()), data)
    slope = (between(noise, data, time + 1e-5) - between(noise, data, time - 1e-5)) / 2e-5
    assert torch.allclose(slope, data - noise, atol=1e-8)


def test_training_times_follow_their_distribution():
    torch.manual_seed(0)
    times = draw_times(200000, torch.zeros(1))
    assert times.min() >= 0.0
    assert times.max() <= 0.999
    # 1 - t/0.999 ~ Beta(1.5, 1): mean 1.5/2.5 and variance ab/((a+b)^2 (a+b+1))
    shares = 1.0 - times.double() / 0.999
    assert shares.mean().item() == pytest.approx(0.6, abs=0.003)
    assert shares.var().item() == pytest.approx(1.5 / (2.5**2 * 3.5), abs=0.002)
    beta = torch.distributions.Beta(1.5, 1.0).sample((200000,))
    quantiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    assert torch.allclose(shares[:100000].quantile(quantiles), beta[:100000].double().quantile(quantiles), atol=0.01)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_a_straight_field_is_followed_exactly(steps):
    noise, data = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    assert torch.allclose(integrate(lambda x, time: data - noise, noise, steps), data, atol=1e-6)


def test_times_of_the_steps():
    seen = []
    integrate(lambda x, time: seen.append(time[0].item()) or torch.zeros_like(x), torch.zeros(1, 1), 4)
    assert seen == [0.0, 0.25, 0.5, 0.75]


def test_the_best_field_of_a_gaussian_leads_to_that_gaussian():
    # Data N(m, s^2): the mean velocity at (x, t) has a closed form, from the joint Gaussian of x_t and data - noise.
    m, s = 0.6, 0.4
    generator = torch.Generator().manual_seed(0)

    def field(x, time):
        t = time[:, None]
        variance = (1 - t) ** 2 + t**2 * s**2
        return m + (t * s**2 - (1 - t)) / variance * (x - t * m)

    x = integrate(field, torch.randn(20000, 1, generator=generator), 200)
    assert x.mean().item() == pytest.approx(m, abs=0.02)
    assert x.std().item() == pytest.approx(s, rel=0.05)


def test_the_loss_vanishes_at_the_right_velocity(monkeypatch):
    network = build()
    inputs = scene(1)
    kept = {}
    real = torch.randn_like

    def remember(values):
        kept["noise"] = real(values)
        return kept["noise"]

    monkeypatch.setattr(torch, "randn_like", remember)
    from vla_ros.models.contract import ModelTarget

    target = ModelTarget(torch.randn(1, 2, 6, 6), torch.ones(1, 2, 6, 1), torch.ones(1, 2), torch.zeros(1, 2, 3))
    monkeypatch.setattr(network, "velocity", lambda x, time, context: target.actions().flatten(0, 1) - kept["noise"])
    assert network.compute_loss(inputs, target)[1]["velocity"] == pytest.approx(0.0, abs=1e-10)


def test_noise_comes_from_a_generator_or_from_the_seed():
    network, inputs = build(), scene(1)
    with torch.no_grad():
        fixed = network.predict(inputs).continuous
        torch.manual_seed(77)
        assert torch.equal(network.predict(inputs).continuous, fixed)
        drawn = [network.predict(inputs, torch.Generator().manual_seed(s)).continuous for s in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2], atol=1e-3)


def test_more_steps_end_nearer_to_the_path():
    def turn(x, time):  # a circle: one Euler step goes far outside
        return 2.0 * math.pi * torch.stack([-x[:, 1], x[:, 0]], dim=1)

    start = torch.tensor([[1.0, 0.0]])
    errors = [(integrate(turn, start, steps) - start).norm().item() for steps in (10, 100, 1000)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def test_unusable_values_are_refused():
    with pytest.raises(ContractError, match="integration_steps is 0, expected at least 1"):
        build(integration_steps=0)
