"""What every network of the table below must do: overfit, be saved and loaded, heed each modality, refuse bad input."""

import dataclasses
import importlib
import json
import time
from typing import NamedTuple

import pytest
import torch

from vla_ros.errors import InstructionError, ObservationError, VlaError
from vla_ros.models.build import MODELS, build_model
from vla_ros.models.contract import ModelInput, ModelTarget

MOST_SECONDS = 1.0
LEAST_CHANGE = 3e-3
"""Of positions, in standard deviations: a network that has lost a modality changes by 1e-4 at most."""
SPREAD = torch.arange(0, 32, 4)  # two steps of each of the four scenes


class Case(NamedTuple):
    """How a network is trained here, and how far it must come."""

    steps: int
    rate: float
    error: float  # of positions, in standard deviations; saying the mean errs by about 0.75
    parameters: int  # of the full size, in millions
    looks: bool = True


CASES = {
    "diffusion": Case(200, 4e-3, 0.25, 84),
    "flow": Case(200, 4e-3, 0.3, 558),
    "clip": Case(150, 3e-3, 0.25, 178),
    "grounded": Case(160, 3e-3, 0.3, 165),
    "memory_efficient": Case(150, 3e-3, 0.35, 77),
    "real_time": Case(180, 4e-3, 0.5, 9, looks=False),
}


def module(name):
    return importlib.import_module(MODELS[name].partition(":")[0])


@pytest.fixture(scope="module", params=CASES)
def name(request):
    if request.param in ("clip", "memory_efficient", "real_time"):
        pytest.importorskip("transformers")
    return request.param


@pytest.fixture(scope="module")
def config(name, sizes):
    return module(name).tiny_config(**sizes)


@pytest.fixture(scope="module")
def trained(name, config, train):
    torch.manual_seed(0)
    network = build_model(name, config)
    torch.set_num_threads(1)
    fastest = train(network, CASES[name].steps, CASES[name].rate)
    return network, fastest


def act(network, given):
    with torch.no_grad():
        return network.act(given)


def fresh(name, config):
    torch.manual_seed(1)
    return build_model(name, config).eval()


def rows(given, index):
    return ModelInput({n: i[index] for n, i in given.images.items()}, given.state[index], given.tokens[index])


def test_it_overfits_the_frames(name, trained, frames, errors):
    network, fastest = trained
    assert fastest < MOST_SECONDS
    measured = errors(act(network, frames.given))
    assert measured["position"] < CASES[name].error, measured
    assert measured["rotation"] < 0.5, measured
    assert measured["gripper"] < 0.1, measured


def test_saved_and_loaded_elsewhere_it_predicts_the_same(name, config, trained, frames, predict_elsewhere):
    given = rows(frames.given, slice(0, 4))
    said = act(trained[0], given)
    for here, there in zip(
        (said.positions, said.rotations, said.gripper),
        predict_elsewhere(name, json.loads(json.dumps(config)), trained[0], given),
        strict=True,
    ):
        assert (here - there).abs().max() < 1e-6


def test_each_modality_changes_what_it_says(name, trained, frames):
    network, given = trained[0], rows(frames.given, SPREAD)
    whole = act(network, given).positions
    other = {
        "images": dataclasses.replace(given, images={n: i.flip(0) for n, i in given.images.items()}),
        "words": dataclasses.replace(given, tokens=given.tokens.flip(1)),
        "state": dataclasses.replace(given, state=given.state.flip(0)),
    }
    changes = {m: float((act(network, changed).positions - whole).abs().mean()) for m, changed in other.items()}
    assert min(changes.values()) > LEAST_CHANGE, changes


@pytest.mark.parametrize("drawing", ["diffusion", "flow"])
def test_without_proprioception_the_pictures_decide(drawing, sizes, frames):
    # In 32 frames proprioception alone tells nearly all of them apart, and these two lean on it: above, other pictures
    # change them by 0.01 only. Without it they have to look.
    torch.manual_seed(0)
    network = build_model(drawing, module(drawing).tiny_config(**sizes))
    given, wanted = dataclasses.replace(frames.given, state=torch.zeros_like(frames.given.state)), frames.wanted
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.0)
    for step in range(200):
        index = torch.arange(step % 4, 32, 4)
        target = ModelTarget(wanted.positions[index], wanted.rotations[index], wanted.gripper[index],
                             wanted.present[index], wanted.target[index])  # fmt: skip
        loss, _ = network.compute_loss(rows(given, index), target)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    network.eval()
    whole = act(network, given).positions
    other = dataclasses.replace(given, images={n: i.flip(0) for n, i in given.images.items()})
    assert (act(network, other).positions - whole).abs().mean() > 0.05


def test_each_camera_is_looked_at(trained, frames):
    network, given = trained[0], rows(frames.given, SPREAD)
    whole = act(network, given).positions
    for camera in given.images:
        blind = {n: torch.zeros_like(i) if n == camera else i for n, i in given.images.items()}
        assert (act(network, dataclasses.replace(given, images=blind)).positions - whole).abs().mean() > LEAST_CHANGE, (
            camera
        )


def test_a_scene_gets_the_same_answer_in_any_batch_and_every_time(trained, frames):
    network, given = trained[0], rows(frames.given, slice(0, 3))
    whole = act(network, given)
    assert torch.equal(act(network, given).positions, whole.positions)
    alone = act(network, rows(given, slice(1, 2)))
    assert torch.allclose(alone.positions[0], whole.positions[1], atol=1e-4)
    one = dataclasses.replace(given, tokens=given.tokens[:, 2:3])
    assert torch.allclose(act(network, one).positions[:, 0], whole.positions[:, 2], atol=1e-4)


def test_shapes_and_attention(name, trained, frames, sizes):
    given = rows(frames.given, slice(0, 2))
    said = act(trained[0], given)
    pairs = tuple(given.tokens.shape[:2])
    assert said.positions.shape == said.rotations.shape == (*pairs, sizes["horizon"], 3)
    assert said.gripper.shape == (*pairs, sizes["horizon"])
    assert said.present.shape == pairs
    assert said.target.shape == (*pairs, 3)
    assert set(said.attention) == (set(sizes["cameras"]) if CASES[name].looks else set())
    for look in said.attention.values():
        assert look.shape[:2] == pairs
        assert look.ndim == 4
        assert (look >= 0).all()
        assert torch.allclose(look.sum(dim=(2, 3)), torch.ones(pairs), atol=1e-4)
    if said.attention:  # different words, different looks
        assert any((look[:, 0] - look[:, 1]).abs().max() > 1e-4 for look in said.attention.values())


def test_absent_objects_teach_no_actions(name, config, frames):
    given, wanted = rows(frames.given, slice(0, 2)), frames.wanted
    network = fresh(name, config)
    losses = []
    for value in (0.0, 1e3):
        far = ModelTarget(
            positions=torch.where(wanted.present[:2, :, None, None] > 0, wanted.positions[:2], value),
            rotations=wanted.rotations[:2], gripper=wanted.gripper[:2], present=wanted.present[:2],
            target=torch.where(wanted.present[:2, :, None] > 0, wanted.target[:2], value),
            pixels={n: p[:2] for n, p in wanted.pixels.items()},
        )  # fmt: skip
        torch.manual_seed(0)
        losses.append(network.compute_loss(given, far)[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_every_parameter_is_reached_by_the_loss(name, config, frames):
    network = fresh(name, config).train()
    index = slice(0, 4)
    wanted = frames.wanted
    target = ModelTarget(wanted.positions[index], wanted.rotations[index], wanted.gripper[index], wanted.present[index],
                         wanted.target[index], {n: p[index] for n, p in wanted.pixels.items()})  # fmt: skip
    network.compute_loss(rows(frames.given, index), target)[0].backward()
    unused = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert [n for n in unused if not n.endswith(UNREACHED.get(name, ()))] == []


UNREACHED = {"clip": ("logit_scale", "visual_projection.weight", "post_layernorm.weight", "post_layernorm.bias")}


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda g: dataclasses.replace(g, state=g.state[:, :-1]), ValueError, ["(2, 9)", "10"]),
        (lambda g: dataclasses.replace(g, images={}), ObservationError, ["front", "missing"]),
        (
            lambda g: dataclasses.replace(g, images={n: i[..., :-32] for n, i in g.images.items()}),
            ObservationError,
            ["(2, 3, 96, 96)", "(2, 3, 96, 128)"],
        ),
        (lambda g: dataclasses.replace(g, tokens=torch.zeros_like(g.tokens)), InstructionError, ["empty"]),
        (lambda g: dataclasses.replace(g, tokens=g.tokens + 1000), InstructionError, ["no word"]),
        (lambda g: rows(g, slice(0, 0)), ValueError, ["(0, 4, 10)", "scenes >= 1"]),
    ],
    ids=["width", "camera", "size", "empty", "unknown", "none"],
)
def test_bad_input_is_refused(name, config, frames, damage, error, words):
    network, given = fresh(name, config), rows(frames.given, slice(0, 2))
    with pytest.raises(error) as caught:
        act(network, damage(given))
    for word in words:
        assert word in str(caught.value)
    with pytest.raises(error):
        network.compute_loss(damage(given), frames.wanted)


def test_unknown_values_are_refused(name, config):
    with pytest.raises(VlaError, match="depht"):
        build_model(name, {**config, "depht": 3})


def test_half_precision_is_the_callers_choice(name, config, frames):
    network = fresh(name, config).to(torch.bfloat16)
    given = rows(frames.given, slice(0, 2))
    half = ModelInput({n: i.bfloat16() for n, i in given.images.items()}, given.state.bfloat16(), given.tokens)
    said = act(network, half)
    assert said.positions.dtype == torch.bfloat16
    assert torch.isfinite(said.positions).all()


def test_the_full_size_on_the_meta_device(name):
    values = module(name).full_config()
    begin = time.monotonic()
    with torch.device("meta"):
        network = build_model(name, values)
        given = ModelInput(
            {n: torch.zeros(2, 3, *size) for n, size in values["cameras"].items()},
            torch.zeros(2, values["state_width"]), torch.ones(2, 2, 5, dtype=torch.long),
        )  # fmt: skip
        if name == "real_time":
            network.eval()
        said = act(network, given)
    assert said.positions.shape == (2, 2, values["horizon"], 3)
    assert said.positions.is_meta
    assert round(network.parameter_count / 1e6) == CASES[name].parameters
    assert time.monotonic() - begin < 60
