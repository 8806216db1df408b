"""The trunk: its losses find what they should, it is saved and read, and every network that names it takes it."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from vla_ros.errors import CheckpointError, ContractError, InstructionError
from vla_ros.models.batch import ModelInput
from vla_ros.models.build import MODELS, build_model, model_class
from vla_ros.models.checkpoint import PolicyBundle
from vla_ros.models.layers.published import load_published
from vla_ros.models.options import model_values
from vla_ros.models.trunk import (
    KIND,
    Trunk,
    TrunkConfig,
    TrunkDescription,
    contrast,
    describe_trunk,
    load_trunk,
    save_trunk,
)
from vla_ros.models.trunk_encoders import TrunkTextEncoder
from vla_ros.robot.contract import load_contract
from vla_ros.training.algorithms.behavioral_cloning import swap_backbones

SIZES = {"channels": 16, "width": 24, "words": 12}
TAKE_IT = [name for name in MODELS if KIND in model_class(name).BACKBONES.get("vision", ())]


@pytest.fixture(scope="module")
def words(dataset):
    """The trunk knows all words of the data set but two, in another order."""
    return tuple(sorted(set(dataset.taught) - {"grab", "cube"}, reverse=True))


@pytest.fixture
def saved(words, tmp_path):
    """saved(seed): a folder with a trunk of random weights."""

    def save(seed=0):
        torch.manual_seed(seed)
        config = TrunkConfig(len(words) + 2, **SIZES)
        save_trunk(tmp_path / f"trunk_{seed}", Trunk(config), TrunkDescription(config, words, {"seed": seed}))
        return tmp_path / f"trunk_{seed}"

    return save


def test_a_trunk_finds_the_thing_that_it_was_shown(frames):
    torch.manual_seed(0)
    inputs, target = frames
    trunk = Trunk(TrunkConfig(64, **SIZES))
    optimiser = torch.optim.Adam(trunk.parameters(), lr=3e-3)
    with torch.no_grad():
        before, _ = trunk.compute_loss(inputs, target)
    for _ in range(60):
        optimiser.zero_grad()
        loss, parts = trunk.compute_loss(inputs, target)
        loss.backward()
        optimiser.step()
    assert set(parts) == {
        "contrast",
        *(f"{part}_{camera}" for part in ("look", "nowhere", "place") for camera in inputs.images),
    }
    assert float(loss.detach()) < 0.6 * float(before)
    found = trunk.vision.ground(trunk.vision(inputs.images["front"]), trunk.questions(inputs.tokens))
    there = torch.isfinite(target.pixels["front"]).all(dim=-1) & (target.target_visible > 0.5)
    places = found.places.unflatten(0, there.shape)[..., 0, :][there]
    wrong = (places - target.pixels["front"][there]).norm(dim=-1).mean()
    middle = (target.pixels["front"][there] - target.pixels["front"][there].mean(dim=0)).norm(dim=-1).mean()
    assert float(wrong) < 0.7 * float(middle)


def test_a_place_is_where_the_patch_is():
    """A map whose one patch answers gives that patch's middle, in the picture's own measure."""
    trunk = Trunk(TrunkConfig(8, **SIZES)).vision
    torch.nn.init.zeros_(trunk.offset.weight)
    torch.nn.init.zeros_(trunk.offset.bias)
    trunk.scale.data.fill_(math.log(200.0))
    features = torch.zeros(1, 16, 3, 5)
    features[:, 0] = -1.0
    features[0, 0, 2, 1] = 1.0
    torch.nn.init.zeros_(trunk.patch.bias)
    question = functional.normalize(trunk.patch(features)[0, :, 2, 1], dim=0).expand(1, 1, 2, -1)
    found = trunk.ground(features, question)
    torch.testing.assert_close(found.places[0, 0], torch.tensor([1.5 / 5, 2.5 / 3]), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(found.look.sum((-2, -1)), torch.ones(1, 2))
    assert float(found.seen[0, 0].detach()) > 0.99


def test_the_contrast_pairs_by_name():
    names = torch.tensor([7, 8, 7])
    right = 50.0 * (names[:, None] == names[None]).float()
    assert float(contrast(right, names)) == pytest.approx((2 * math.log(2.0)) / 3, abs=1e-4)  # two of one name share
    assert float(contrast(torch.zeros(3, 3), names)) == pytest.approx(math.log(3.0))
    assert float(contrast(-right, names)) > 10.0


def test_a_saved_trunk_is_read_and_a_damaged_one_named(saved, words, tmp_path):
    folder = saved(3)
    trunk, description = load_trunk(folder)
    torch.manual_seed(3)
    again = Trunk(TrunkConfig(len(words) + 2, **SIZES)).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in trunk.state_dict().items())
    assert description.words == words and description.training == {"seed": 3}
    with pytest.raises(CheckpointError, match=r"nowhere/trunk\.json is no trunk"):
        describe_trunk(tmp_path / "nowhere")
    lines = json.loads((folder / "trunk.json").read_text())
    lines["config"]["channels"] = 8
    (folder / "trunk.json").write_text(json.dumps(lines))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_trunk(folder)
    lines["config"]["channels"] = -1
    (folder / "trunk.json").write_text(json.dumps(lines))
    with pytest.raises(CheckpointError, match="expected positive whole numbers"):
        describe_trunk(folder)


def _named(name, folder, sizes, words, **options):
    needed = {key: value for key, value in sizes.items() if key != "words"}
    inputs = {"size": "tiny", "vision": str(folder), "text": str(folder), **options}
    values, sources = model_values(name, needed, inputs, 10)
    torch.manual_seed(1)
    network = build_model(name, json.loads(json.dumps(values)))
    return network, values, load_published(network, sources, words)


@pytest.mark.parametrize("name", TAKE_IT)
@pytest.mark.parametrize("freeze", [False, True])
def test_a_network_sees_and_reads_by_a_trunk(name, freeze, saved, sizes, frames, dataset):
    if name in ("memory_efficient", "real_time"):
        pytest.importorskip("transformers")
    network, values, kept = _named(name, saved(), sizes, dataset.processor.tokenizer.words, freeze=freeze)
    assert "trunk_" not in json.dumps(values)  # what travels in the checkpoint needs no folder
    assert kept == {"vision": [], "text": ["the word 'cube'", "the word 'grab'"]}
    trunk, _ = load_trunk(saved())
    for half in ("vision", "text"):
        theirs = getattr(trunk, half).state_dict()
        assert all(torch.equal(v, theirs[n]) for n, v in network.backbones()[half].tower.state_dict().items())
    inputs = ModelInput(
        {c: i[:4] for c, i in frames.inputs.images.items()}, frames.inputs.state[:4], frames.inputs.tokens[:4]
    )
    target = type(frames.target)(
        **{
            field: {k: v[:4] for k, v in value.items()} if isinstance(value, dict) else value[:4]
            for field, value in vars(frames.target).items()
            if value is not None
        }
    )
    network.train()
    network.compute_loss(inputs, target)[0].backward()
    learned = {
        half: any(p.grad is not None for p in network.backbones()[half].tower.parameters())
        for half in ("vision", "text")
    }
    assert learned == {"vision": not freeze, "text": not freeze}
    assert any(p.grad is not None for p in network.parameters())
    network.eval()
    with torch.no_grad():
        output = network.predict(inputs)
        maps = network.backbones()["vision"].owner.features(inputs.images)
        cached = ModelInput(maps, inputs.state, inputs.tokens)
        if freeze:
            assert network.cached_shape("front") == tuple(maps["front"].shape[1:])
            torch.testing.assert_close(network.predict(cached).continuous, output.continuous, atol=1e-5, rtol=1e-5)
        else:
            with pytest.raises(Exception, match="camera 'front' gave"):
                network.predict(cached)
    # Half precision that the maps are stored in, and everything that training may change after a checkpoint is loaded.
    assert {n for n, p in network.trainable().named_parameters() if not p.requires_grad} == (
        {
            n
            for n, p in network.named_parameters()
            if any(p is one for half in ("vision", "text") for one in network.backbones()[half].tower.parameters())
        }
        if freeze
        else set()
    )


def test_words_keep_their_meaning_in_another_vocabulary(saved, words, dataset):
    encoder = TrunkTextEncoder(
        dataset.processor.tokenizer.size, 10, {"kind": KIND, "vocabulary": len(words) + 2, **SIZES}
    )
    encoder.load_source(saved(), dataset.processor.tokenizer.words)
    trunk, _ = load_trunk(saved())
    theirs = {word: number for number, word in enumerate(words, 2)}
    sentence = ["pick", "up", "the", "red", "ball"]
    ours = dataset.processor.tokens([" ".join(sentence)])
    expected = trunk.text(torch.tensor([[theirs[word] for word in sentence] + [0] * (ours.shape[1] - 5)]))
    for got, value in zip(encoder.read(ours), expected, strict=True):
        torch.testing.assert_close(got, value)
    with pytest.raises(InstructionError, match="a sentence has 13 words, the trunk reads at most 12"):
        encoder(torch.full((1, 13), 3))


def test_a_backbone_is_swapped_and_the_rest_stays(saved, sizes, frames, dataset):
    network, values, _ = _named("flow", saved(1), sizes, dataset.processor.tokenizer.words, freeze=True)
    bundle = PolicyBundle("flow", values, dataset.processor, load_contract("panda").text, {})
    other, lines, swapped = swap_backbones(network, bundle, {"vision": str(saved(2)), "text": str(saved(2))})
    assert swapped == {"vision": str(saved(2)), "text": str(saved(2)), "anew": []} and lines["freeze"] is True
    trunk, _ = load_trunk(saved(2))
    new = {half: other.backbones()[half].tower.state_dict() for half in ("vision", "text")}
    assert all(
        torch.equal(v, getattr(trunk, half).state_dict()[n]) for half, one in new.items() for n, v in one.items()
    )
    before = network.state_dict()
    same = [n for n, v in other.state_dict().items() if torch.equal(v, before[n])]
    assert {n for n in before if ".tower." not in n} <= set(same)
    assert any(".tower." in n for n in before if n not in same)
    # Nothing is named: the very same network. A network without a trunk gets one, and what is new begins anew.
    assert swap_backbones(network, bundle, {"width": 32})[0] is network
    plain_values, _ = model_values("flow", {k: v for k, v in sizes.items() if k != "words"}, {"size": "tiny"}, 10)
    plain = build_model("flow", plain_values)
    other = PolicyBundle("flow", plain_values, dataset.processor, bundle.contract, {})
    grown, _, swapped = swap_backbones(plain, other, {"vision": str(saved(2))})
    assert "context.image_projection.weight" in swapped["anew"]
    assert torch.equal(grown.denoiser.leave.weight, plain.denoiser.leave.weight)
    assert np.isfinite(float(grown.compute_loss(*frames)[0].detach()))


def test_what_is_no_trunk_is_said(sizes, tmp_path):
    needed = {key: value for key, value in sizes.items() if key != "words"}
    with pytest.raises(ContractError, match=r"is no folder with a trunk; train one with config/training/trunk\.yaml"):
        model_values("keypoint", needed, {"vision": str(tmp_path)}, 10)
