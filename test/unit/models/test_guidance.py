"""Guided sampling: without weights it is the plain one, with them the known rows are kept."""

import pytest
import torch

from vla_ros.models.contract import ModelInput
from vla_ros.models.generative.guidance import MAX_GUIDANCE_WEIGHT, guidance_strength, integrate_towards
from vla_ros.models.networks.diffusion import DiffusionModel
from vla_ros.models.networks.flow import FlowModel

H, A = 8, 2


def scene():
    generator = torch.Generator().manual_seed(0)
    images = {"eye": torch.rand(1, 3, 32, 32, generator=generator)}
    return ModelInput(
        images, torch.randn(1, 4, generator=generator), torch.randint(1, 12, (1, 1, 3), generator=generator)
    )


def build(kind, **changes):
    torch.manual_seed(0)
    small = {**kind.tiny_config({"eye": (32, 32)}, 12, 4, 6), "width": 32, "layers": 1}
    return kind.from_config({**small, **changes}).eval()


@pytest.mark.parametrize(
    "network", [build(FlowModel), build(DiffusionModel), build(DiffusionModel, prediction="epsilon", schedule="linear")]
)
def test_without_weights_it_is_the_plain_chunk(network):
    inputs = scene()
    horizon, width = network.config.horizon, network.config.action.width
    with torch.no_grad():
        plain = network.predict(inputs)
        free = network.predict_guided(inputs, torch.randn(horizon, width), torch.zeros(horizon))
    assert torch.allclose(free.continuous, plain.continuous, atol=1e-4)
    assert torch.allclose(free.binary, plain.binary, atol=1e-3)


@pytest.mark.parametrize("kind", [FlowModel, DiffusionModel])
def test_weights_pull_the_rows_that_have_them(kind):
    network, inputs = build(kind), scene()
    horizon, width = network.config.horizon, network.config.action.width
    known, weights = torch.full((horizon, width), 0.5), torch.zeros(horizon)
    weights[:2] = 1.0
    with torch.no_grad():
        plain = network.predict(inputs).continuous[0, 0]
        guided = network.predict_guided(inputs, known, weights).continuous[0, 0]
    before, after = (plain[:2] - 0.5).abs().mean(), (guided[:2] - 0.5).abs().mean()
    assert after < before


def gaussian(rough):
    """The exact estimate for chunks that are Gaussian, their rows correlated: a network without an error."""
    rows = torch.arange(H, dtype=torch.float64)
    covariance = torch.exp(-((rows[:, None] - rows) ** 2) / (2.0 * rough**2)) + 1e-4 * torch.eye(H, dtype=torch.float64)

    def estimate(times):
        def at(x, step):
            t = times[step]
            path = t**2 * covariance + (1.0 - t) ** 2 * torch.eye(H, dtype=torch.float64)
            inverse = torch.linalg.inv(path)
            return t * covariance @ inverse @ x, (1.0 - t) * inverse @ x

        return at

    return covariance, estimate


def test_guided_rows_are_kept_and_those_behind_go_on_from_them():
    times = [step / 10 for step in range(11)]
    covariance, estimate = gaussian(rough=3.0)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(200, H, A, generator=generator, dtype=torch.float64)
    known = torch.linalg.cholesky(covariance) @ torch.randn(H, A, generator=generator, dtype=torch.float64)
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    free = integrate_towards(estimate(times), noise, times, known, torch.zeros_like(weights))
    guided = integrate_towards(estimate(times), noise, times, known, weights)
    wrong_free, wrong = ((x[:, :3] - known[:3]).abs().mean() for x in (free, guided))
    assert wrong < 0.25 * wrong_free
    # The seam: from the last kept row to the first free one. Without guidance it jumps.
    seam_free, seam = ((x[:, 3] - known[2]).abs().mean() for x in (free, guided))
    assert seam < 0.5 * seam_free


def test_strength_is_bounded_at_both_ends():
    assert guidance_strength(0.0) == guidance_strength(0.999) == MAX_GUIDANCE_WEIGHT
    assert guidance_strength(0.5) == pytest.approx(2.0)


def test_known_rows_of_another_shape_are_refused():
    network, inputs = build(FlowModel), scene()
    with pytest.raises(ValueError, match="expected"):
        network.predict_guided(inputs, torch.zeros(3, network.config.action.width), torch.zeros(3))
