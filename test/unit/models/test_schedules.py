import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import ContractError
from vla_ros.models.generative.schedules import PREDICTIONS, SCHEDULES, NoiseSchedule, cosine_betas, linear_betas

THEIRS = {"epsilon": "epsilon", "sample": "sample", "velocity": "v_prediction"}
BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def theirs(name, kind, prediction, steps=50):
    """Return the scheduler of the same noise from the diffusers library."""
    diffusers = pytest.importorskip("diffusers")
    bounds = {"beta_start": 1e-4 * 1000 / steps, "beta_end": min(0.02 * 1000 / steps, 0.999)}
    return getattr(diffusers, name)(
        num_train_timesteps=steps,
        beta_schedule=BETAS[kind],
        prediction_type=THEIRS[prediction],
        clip_sample=False,
        **bounds,
    )


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 10, 100, 1000])
def test_a_schedule_goes_from_data_to_noise(kind, steps):
    schedule = NoiseSchedule(kind, steps)
    bar = schedule.alphas_cumprod
    assert (bar[1:] < bar[:-1]).all()
    assert bar[-1] < 0.05
    assert ((schedule.betas > 0) & (schedule.betas < 1)).all()
    if steps >= 100:
        assert bar[0] > 0.99


def test_betas_against_the_papers():
    assert linear_betas(1000)[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    # f(t) = cos((t/T + s) / (1 + s) pi/2)^2 by hand at T = 4: bar alpha_1 = f(1) / f(0)
    f = [math.cos((i / 4 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(3)]
    assert cosine_betas(4)[:2].tolist() == pytest.approx([1 - f[1] / f[0], 1 - f[2] / f[1]])
    assert cosine_betas(4)[-1] == 0.999


@pytest.mark.parametrize("kind", SCHEDULES)
def test_noise_added_step_by_step_is_the_noise_added_at_once(kind):
    # x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) e: mean and variance by that recursion against q_sample's.
    schedule = NoiseSchedule(kind, 20)
    mean, variance = 1.0, 0.0
    for t, beta in enumerate(schedule.betas.double().tolist()):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        at = torch.tensor([t])
        assert schedule.q_sample(torch.ones(1, 1), at, torch.zeros(1, 1)).item() == pytest.approx(mean, abs=1e-6)
        assert schedule.q_sample(torch.zeros(1, 1), at, torch.ones(1, 1)).item() == pytest.approx(
            math.sqrt(variance), abs=1e-6
        )


@pytest.mark.parametrize("kind", SCHEDULES)
def test_posterior_is_bayes_rule(kind):
    # q(x_{t-1} | x_t, x_0) is N(x_t; sqrt(a_t) x_{t-1}, b_t) times N(x_{t-1}; sqrt(bar_{t-1}) x_0, 1 - bar_{t-1}), but
    # for a factor: two Gaussians in x_{t-1}, whose precisions add.
    schedule = NoiseSchedule(kind, 30)
    x_0, x_t = 0.7, -1.3
    for t in range(1, 30):
        beta, bar = float(schedule.betas[t]), float(schedule.alphas_cumprod[t - 1])
        precision = (1 - beta) / beta + 1 / (1 - bar)
        mean = (math.sqrt(1 - beta) * x_t / beta + math.sqrt(bar) * x_0 / (1 - bar)) / precision
        got = schedule.posterior(torch.tensor([[x_0]]), torch.tensor([[x_t]]), torch.tensor([t]))
        assert got[0].item() == pytest.approx(mean, rel=1e-4, abs=1e-5)
        assert got[1].item() == pytest.approx(1 / precision, rel=1e-4)


def test_posterior_at_the_first_step_is_the_data():
    schedule = NoiseSchedule("cosine", 30)
    x_0 = normal(4, 3)
    mean, variance = schedule.posterior(x_0, normal(4, 3, seed=1), torch.zeros(4, dtype=torch.long))
    assert torch.allclose(mean, x_0, atol=1e-6)
    assert (variance == 0).all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", SCHEDULES)
def test_steps_agree_with_diffusers(kind, prediction):
    ours, ddpm, ddim = (
        NoiseSchedule(kind, 50, prediction),
        theirs("DDPMScheduler", kind, prediction),
        theirs("DDIMScheduler", kind, prediction),
    )
    assert torch.allclose(ours.alphas_cumprod, ddpm.alphas_cumprod, atol=1e-6)
    x_0, noise, output = normal(5, 8, 7), normal(5, 8, 7, seed=1), normal(5, 8, 7, seed=2)
    t = torch.tensor([0, 3, 17, 31, 40])
    x_t = ours.q_sample(x_0, t, noise)
    assert torch.allclose(x_t, ddpm.add_noise(x_0, noise, t), atol=1e-6)
    assert torch.allclose(ours.velocity(x_0, t, noise), ddpm.get_velocity(x_0, noise, t), atol=1e-6)
    ddpm.set_timesteps(50)
    for row, step in enumerate(t.tolist()):
        at = t[row : row + 1]
        generator = torch.Generator().manual_seed(9)
        expected = ddpm.step(output[row : row + 1], step, x_t[row : row + 1], generator=generator).prev_sample
        drawn = normal(1, 8, 7, seed=9)
        got = ours.p_sample(x_t[row : row + 1], at, output[row : row + 1], drawn)
        assert torch.allclose(got, expected, atol=2e-5), (kind, prediction, step)
    ddim.set_timesteps(10)  # every fifth step
    for eta in (0.0, 0.6):
        for row, step in enumerate([0, 5, 20, 45]):
            generator = torch.Generator().manual_seed(9)
            expected = ddim.step(
                output[row : row + 1], step, x_t[row : row + 1], eta=eta, generator=generator
            ).prev_sample
            got = ours.ddim_step(
                x_t[row : row + 1],
                torch.tensor([step]),
                output[row : row + 1],
                torch.tensor([max(step - 5, -1)]),
                eta,
                normal(1, 8, 7, seed=9),
            )
            if step >= 5:  # below, diffusers ends at bar alpha of step 0 unless told otherwise
                assert torch.allclose(got, expected, atol=2e-5), (kind, prediction, step, eta)


@settings(max_examples=50)
@given(
    t=st.integers(0, 38),
    kind=st.sampled_from(SCHEDULES),
    prediction=st.sampled_from(PREDICTIONS),
    seed=st.integers(0, 99),
)
def test_what_is_wanted_and_what_is_believed_are_inverse(t, kind, prediction, seed):
    schedule = NoiseSchedule(kind, 40, prediction)
    x_0, noise, at = normal(2, 6, seed=seed), normal(2, 6, seed=seed + 1000), torch.full((2,), t)
    x_t = schedule.q_sample(x_0, at, noise)
    back = schedule.believed(x_t, at, schedule.target(x_0, at, noise))
    slack = 1e-5 / float(min(schedule.sqrt_bar[t], schedule.sqrt_one_minus_bar[t]))
    assert torch.allclose(back[0], x_0, atol=slack)
    assert torch.allclose(back[1], noise, atol=slack)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_leads_ddim_to_the_data_in_any_number_of_steps(prediction):
    schedule = NoiseSchedule("cosine", 100, prediction)
    x_0, noise = normal(3, 5), normal(3, 5, seed=1)
    for count in (1, 4, 100):
        steps = schedule.visited(count)
        x = schedule.q_sample(x_0, torch.full((3,), steps[0]), noise)
        for t, earlier in zip(steps, [*steps[1:], -1], strict=True):
            output = schedule.target(x_0, torch.full((3,), t), noise)
            x = schedule.ddim_step(x, torch.full((3,), t), output, torch.full((3,), earlier))
        assert torch.allclose(x, x_0, atol=2e-2 if prediction == "epsilon" else 1e-4), count


def test_the_reverse_chain_of_a_gaussian_is_that_gaussian():
    # For x_0 ~ N(m, s^2) the best x_0 given x_t is known in closed form; 20000 chains must end in that distribution.
    m, s = 0.5, 0.3
    schedule = NoiseSchedule("cosine", 100, "sample")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20000, 1, generator=generator)
    for t in reversed(range(100)):
        bar = float(schedule.alphas_cumprod[t])
        gain = math.sqrt(bar) * s**2 / (bar * s**2 + 1 - bar)
        output = m + gain * (x - math.sqrt(bar) * m)
        x = schedule.p_sample(x, torch.full((20000,), t), output, torch.randn(20000, 1, generator=generator))
    assert x.mean().item() == pytest.approx(m, abs=0.01)
    assert x.std().item() == pytest.approx(s, abs=0.015)


def test_bound_holds_for_both_samplers():
    schedule = NoiseSchedule("cosine", 10, "sample")
    x_t, output, zero = normal(1, 4), torch.full((1, 4), 50.0), torch.tensor([0])
    assert schedule.p_sample(x_t, zero, output, normal(1, 4), bound=3.0).abs().max() <= 3.001
    assert schedule.ddim_step(x_t, zero, output, torch.tensor([-1]), bound=3.0).abs().max() <= 3.001


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("quadratic", 10), ["quadratic", "cosine, linear"]),
        (("cosine", 1), ["1 steps", "at least 2"]),
        (("cosine", 10, "noise"), ["noise", "epsilon, sample, velocity"]),
    ],
)
def test_an_unusable_schedule_is_refused(arguments, words):
    with pytest.raises(ContractError) as error:
        NoiseSchedule(*arguments)
    assert all(word in str(error.value) for word in words)


def test_visited_steps():
    schedule = NoiseSchedule("cosine", 100)
    assert schedule.visited(4) == [99, 66, 33, 0]
    assert schedule.visited(1) == [99]
    assert schedule.visited(100) == list(reversed(range(100)))
    for count in (0, 101):
        with pytest.raises(ContractError, match=f"{count} steps, expected 1 to 100"):
            schedule.visited(count)
    with pytest.raises(ValueError, match="needs noise"):
        schedule.ddim_step(normal(1, 2), torch.tensor([5]), normal(1, 2), torch.tensor([1]), eta=0.5)
