import pytest
import torch

from vla_ros.errors import ContractError
from vla_ros.models.contract import ModelInput
from vla_ros.models.generative.denoisers import DENOISERS, build_denoiser
from vla_ros.models.generative.schedules import PREDICTIONS
from vla_ros.models.networks.diffusion import DiffusionModel, actions_of

SMALL = {
    **DiffusionModel.tiny_config({"eye": (32, 32)}, 12, 4, 6),
    "width": 32,
    "patch": 16,
    "layers": 1,
    "steps": 20,
    "sampling_steps": 5,
}


def build(**changes):
    torch.manual_seed(0)
    return DiffusionModel.from_config({**SMALL, **changes}).eval()


def scene(count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return ModelInput(
        {"eye": torch.rand(count, 3, 32, 32, generator=generator)},
        torch.randn(count, 4, generator=generator),
        torch.randint(1, 12, (count, 2, 3), generator=generator),
    )


class Answers(torch.nn.Module):
    """Answers with a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, time, context):
        return self.function(x, time, context)


class Perfect(torch.nn.Module):
    """Answers as if the data were one fixed chunk."""

    def __init__(self, schedule, chunk, steps):
        super().__init__()
        self.schedule, self.chunk, self.steps = schedule, chunk, steps

    def forward(self, x_t, time, context):
        t = (time * self.steps).round().long() - 1
        x_0 = self.chunk.expand_as(x_t)
        signal, spread = (self.schedule._at(name, t, x_t) for name in ("sqrt_bar", "sqrt_one_minus_bar"))
        noise = (x_t - signal * x_0) / spread
        return self.schedule.target(x_0, t, noise)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_draws_the_data(prediction, sampler):
    network = build(prediction=prediction, sampler=sampler)
    chunk = torch.linspace(-1.0, 1.0, 42).view(1, 6, 7)
    network.denoiser = Perfect(network.schedule, chunk, 20)
    with torch.no_grad():
        output = actions_of(network.predict(scene()))
    assert torch.allclose(output, chunk.expand_as(output), atol=1e-2 if prediction == "epsilon" else 1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_of_a_perfect_network_is_zero_and_of_a_silent_one_known(prediction):
    network = build(prediction=prediction)
    chunk = torch.randn(1, 6, 7)
    network.denoiser = Perfect(network.schedule, chunk, 20)
    t, noise = torch.tensor([0, 9, 15]), torch.randn(3, 6, 7)
    with torch.no_grad():
        context = network.context(scene(3))
        losses = network.p_losses(chunk.expand(3, -1, -1), t, noise, context)
        assert torch.allclose(losses, torch.zeros(3), atol=1e-4)
        network.denoiser = Answers(lambda x, time, context: torch.zeros_like(x))
        losses = network.p_losses(chunk.expand(3, -1, -1), t, noise, context)
        target = network.schedule.target(chunk.expand(3, -1, -1), t, noise)
    assert torch.allclose(losses, (target**2).mean(dim=(1, 2)))


def test_noise_comes_from_a_generator_or_from_the_seed():
    network, inputs = build(), scene(1)
    with torch.no_grad():
        fixed = network.predict(inputs).continuous
        torch.manual_seed(77)
        assert torch.equal(network.predict(inputs).continuous, fixed)
        drawn = [network.predict(inputs, torch.Generator().manual_seed(s)).continuous for s in (3, 3, 4)]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.allclose(drawn[0], drawn[2], atol=1e-3)
        assert not torch.allclose(build(seed=1).predict(inputs).continuous, fixed, atol=1e-3)


def test_actions_stay_within_the_bound():
    network = build(bound=0.5, prediction="sample")
    network.denoiser = Answers(lambda x, time, context: 100.0 * torch.ones_like(x))
    with torch.no_grad():
        assert actions_of(network.predict(scene())).abs().max() <= 0.5 + 1e-4


def test_receding_horizon():
    assert build(execute=2).execute == 2
    assert build().execute == 3
    network, inputs = build(prediction="sample"), scene(1)
    chunk = torch.linspace(-1.0, 1.0, 12).view(1, 2, 6, 1).expand(1, 2, 6, 7)
    with torch.no_grad():
        # a network that believes what it is shown: what remains of the plan is what it says next
        network.denoiser = Answers(lambda x, time, context: x)
        calm = actions_of(network.continue_from(inputs, chunk, done=2, strength=0.0))
    shifted = torch.cat([chunk[:, :, 2:], chunk[:, :, -1:].expand(-1, -1, 2, -1)], dim=2)
    assert torch.allclose(calm, shifted, atol=0.35)
    assert (calm - shifted).abs().mean() < 0.5 * (calm - chunk).abs().mean()
    calls = []
    network.denoiser = Answers(lambda x, time, context: calls.append(float(time[0])) or x)
    with torch.no_grad():
        network.continue_from(inputs, chunk, done=2, strength=0.5)
    assert calls[0] == pytest.approx(11 / 20)  # step round(0.5 * 19) of 20
    assert len(calls) == 3  # 10, and of the five that it visits from the start those below: 5 and 0
    assert calls == sorted(set(calls), reverse=True)
    with pytest.raises(ContractError, match="done is 7, expected 0 to 6"):
        network.continue_from(inputs, chunk, done=7)


@pytest.mark.parametrize("prediction", ["sample", "epsilon"])
def test_two_ways_of_doing_it_are_both_drawn_and_never_their_mean(prediction):
    # The same scene, and two right chunks: all 1 or all -1. A network that says the mean would say 0.
    torch.manual_seed(0)
    network = build(prediction=prediction, horizon=2, denoiser="transformer", layers=1, steps=20, sampling_steps=20)
    inputs = scene(1)
    one = ModelInput(inputs.images, inputs.state, inputs.tokens[:, :1])
    with torch.no_grad():
        context = network.context(one)
    many = type(context)(
        context.tokens.expand(64, -1, -1), context.summary.expand(64, -1), {}, context.target, context.target_visible
    )
    optimiser = torch.optim.Adam(network.denoiser.parameters(), 3e-3)
    for _ in range(300):
        x_0 = (2.0 * (torch.rand(64, 1, 1) > 0.5) - 1.0).expand(64, 2, 7)
        loss = network.p_losses(x_0, torch.randint(20, (64,)), torch.randn(64, 2, 7), many).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        drawn = network.sample(torch.randn(64, 2, 7), many).mean(dim=(1, 2))
    assert (drawn.abs() > 0.7).float().mean() > 0.85, drawn
    assert 0.2 < (drawn > 0).float().mean() < 0.8


@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize("horizon", [1, 5, 12, 16])
def test_denoisers_keep_any_horizon_and_see_all_they_are_told(kind, horizon):
    torch.manual_seed(0)
    network = build(horizon=horizon)
    denoiser = build_denoiser(kind, 7, horizon, 32, 4, 3)
    with torch.no_grad():
        context = network.context(scene(1))
    x = torch.randn(2, horizon, 7, requires_grad=True)
    time = torch.tensor([0.2, 0.7], requires_grad=True)
    context.summary.requires_grad_(True)
    output = denoiser(x, time, context)
    assert output.shape == x.shape
    gradients = torch.autograd.grad((output**2).sum(), [x, time, context.summary])
    assert all((gradient.abs() > 0).any() for gradient in gradients)
    if horizon > 1:  # the last row of the plan may change the first
        again = torch.autograd.grad(denoiser(x, time, context)[0, 0].sum(), x)[0]
        assert again[0, -1].abs().sum() > 0


def test_the_gradient_of_the_loss_by_finite_differences():
    network = build(width=16, heads=2).double()
    inputs = scene(1)
    inputs = ModelInput({"eye": inputs.images["eye"].double()}, inputs.state.double(), inputs.tokens)
    context = network.context(inputs)
    x_0, noise = torch.randn(2, 6, 7).double(), torch.randn(2, 6, 7).double()
    t, weight = torch.tensor([3, 12]), network.denoiser.leave.weight

    def loss():
        return network.p_losses(x_0, t, noise, context).sum()

    gradient = torch.autograd.grad(loss(), weight)[0]
    for row, column in ((0, 0), (3, 7), (6, 15)):
        with torch.no_grad():
            weight[row, column] += 1e-4
            above = loss()
            weight[row, column] -= 2e-4
            below = loss()
            weight[row, column] += 1e-4
        assert gradient[row, column].item() == pytest.approx(((above - below) / 2e-4).item(), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "euler"}, ["euler", "ddim, ddpm"]),
        ({"sampling_steps": 21}, ["21", "20"]),
        ({"denoiser": "mlp"}, ["mlp", "transformer, unet"]),
        ({"schedule": "sigmoid"}, ["sigmoid", "cosine, linear"]),
        ({"prediction": "x"}, ["'x'", "epsilon, sample, velocity"]),
        ({"execute": 9}, ["9", "6"]),
        ({"bound": 0.0}, ["0.0", "more than 0"]),
    ],
)
def test_unusable_values_are_refused(changes, words):
    with pytest.raises(ContractError) as error:
        build(**changes)
    assert all(word in str(error.value) for word in words)
