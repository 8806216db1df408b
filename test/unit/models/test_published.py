"""Published backbones from a local folder inside the networks: the numbers of Transformers, the contract as before."""

import json
import shutil

import pytest
import torch

pytest.importorskip("transformers")

import transformers

from vla_ros.errors import ContractError
from vla_ros.models.batch import ModelInput, ModelTarget
from vla_ros.models.build import MODELS, build_model, model_class
from vla_ros.models.layers.attention import causal_mask
from vla_ros.models.layers.backbones import build_tower, load_weights, standardize
from vla_ros.models.layers.published import (
    IMAGE_KINDS,
    IMAGE_STATISTICS,
    LANGUAGE_KINDS,
    TEXT_KINDS,
    PublishedImageEncoder,
    PublishedTextEncoder,
    PublishedTransformer,
    load_published,
    name_sources,
)
from vla_ros.models.options import model_values, read_options
from vla_ros.models.trunk import KIND

NEEDED = {"cameras": {"eye": (64, 96)}, "vocabulary": 9, "state_width": 4, "horizon": 3}
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VALUES = {
    "clip_vision": {**SMALL, "patch_size": 16, "image_size": 32},
    "siglip_vision": {**SMALL, "patch_size": 16, "image_size": 32},
    "dinov2": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16, "image_size": 32},
    "vit": {**SMALL, "patch_size": 16, "image_size": 32},
    "bert": {**SMALL, "vocab_size": 12, "max_position_embeddings": 40},
    "distilbert": {
        "dim": 16,
        "hidden_dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "vocab_size": 12,
        "max_position_embeddings": 40,
    },
    "clip_text": {**SMALL, "vocab_size": 12, "max_position_embeddings": 40, "eos_token_id": 11, "bos_token_id": 10},
    "llama": {**SMALL, "num_key_value_heads": 1, "vocab_size": 12},
    "qwen2": {**SMALL, "num_key_value_heads": 1, "vocab_size": 12},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 12, "n_positions": 64},
    "clip": {
        "vision_config": {**SMALL, "patch_size": 16, "image_size": 32},
        "projection_dim": 8,
        "text_config": {**SMALL, "vocab_size": 12, "eos_token_id": 11, "bos_token_id": 10},
    },
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
    "mobilenet_v2": {"depth_multiplier": 0.25, "min_depth": 8},
    "owlv2": {
        "vision_config": {**SMALL, "image_size": 32, "patch_size": 16},
        "projection_dim": 8,
        "text_config": {**SMALL, "vocab_size": 12, "eos_token_id": 11, "bos_token_id": 10},
    },
}
LINES = [
    (name, line, kind)
    for name in MODELS
    for line, kinds in model_class(name).BACKBONES.items()
    for kind in kinds
    if kind != KIND
]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pick", "up", "red", "cu", "##be"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """folder(kind): a backbone with random weights, saved by Transformers."""
    kept = {}

    def get(kind):
        if kind not in kept:
            torch.manual_seed(5)
            kept[kind] = tmp_path_factory.mktemp(kind)
            build_tower(kind, VALUES[kind]).save_pretrained(kept[kind])
        return kept[kind]

    return get


@pytest.fixture
def spoken(folder, tmp_path):
    """A BERT with a tokenizer that cuts "cube" in two."""
    shutil.copytree(folder("bert"), tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(PIECES))
    transformers.BertTokenizer(str(tmp_path / "bert" / "vocab.txt")).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def scene(count=2):
    generator = torch.Generator().manual_seed(0)
    inputs = ModelInput(
        {"eye": torch.rand(count, 3, 64, 96, generator=generator)},
        torch.randn(count, 4, generator=generator),
        torch.tensor([[[3, 4, 5, 0], [6, 7, 0, 0]]]).expand(count, -1, -1),
    )
    target = ModelTarget(
        torch.randn(count, 2, 3, 6, generator=generator),
        torch.ones(count, 2, 3, 1),
        torch.ones(count, 2),
        torch.zeros(count, 2, 3),
        {"eye": torch.full((count, 2, 2), 0.5)},
    )
    return inputs, target


def build(name, line, source):
    """The network, as training prepares it."""
    extra = {
        "foundation": {"patch": 16},
        "rt2": {"patch": 16},
        "unified": {"patch": 16},
        "memory_efficient": {"norm": "frozen", "shrink": 1},
        "real_time": {"norm": "frozen", "shrink": 1},
        "grounded": {"detector": "owlv2", "objects": 4},
    }
    options = {"size": "tiny", **extra.get(name, {}), line: str(source)}
    values, sources = model_values(name, NEEDED, options, 4)
    torch.manual_seed(1)
    return build_model(name, json.loads(json.dumps(values))), values, sources


@pytest.mark.parametrize(("name", "line", "kind"), LINES, ids=["-".join(line) for line in LINES])
def test_a_named_folder_gives_its_sizes_and_weights(name, line, kind, folder):
    network, values, sources = build(name, line, folder(kind))
    assert sources == {line: str(folder(kind))}
    assert str(folder(kind)) not in json.dumps(values)  # what travels in the checkpoint needs no folder
    tower = network.backbones()[line].tower
    theirs = type(tower).from_pretrained(folder(kind)).state_dict()
    before = {n: w.clone() for n, w in tower.state_dict().items()}
    kept = load_published(network, sources)[line]
    after = tower.state_dict()
    for weight, value in after.items():
        assert torch.equal(value, before[weight] if weight in kept else theirs[weight]), weight
    assert sum(w.numel() for n, w in after.items() if n in kept) < 0.5 * sum(w.numel() for w in after.values())
    inputs, target = scene()
    network.train()
    loss, _ = network.compute_loss(inputs, target)
    loss.backward()
    still = [n for n, p in tower.named_parameters() if p.requires_grad and p.grad is None]
    assert [n for n in still if not n.endswith(UNREACHED.get(name, ("\0",)))] == []
    network.eval()
    with torch.no_grad():
        seen = network.inspect(inputs)
    assert seen.output.continuous.shape == (2, 2, 3, 6)
    for look in [*seen.attention.values(), *(w.flatten(0, 1) for w in seen.words.values())]:
        torch.testing.assert_close(look.sum((-2, -1)), torch.ones(look.shape[:-2]))


UNREACHED = {
    "clip": ("logit_scale", "visual_projection.weight", "post_layernorm.weight", "post_layernorm.bias"),
    "grounded": ("logit_scale", "logit_shift.weight", "bias", "weight"),  # OWLv2's text half is for its own queries
}


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_picture_tokens_are_those_of_transformers(kind, folder):
    encoder = PublishedImageEncoder({"eye": (32, 48)}, {"kind": kind, **VALUES[kind]}).eval()
    encoder.norm = torch.nn.Identity()
    load_weights(encoder.tower, str(folder(kind)))
    theirs = type(encoder.tower).from_pretrained(folder(kind)).eval()
    image = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        found = encoder({"eye": image})
        extra = {} if kind == "dinov2" else {"interpolate_pos_encoding": True}
        whole = theirs(pixel_values=standardize(image, *IMAGE_STATISTICS[kind]), **extra).last_hidden_state
    assert found.shape == (2, 6, 16)
    assert whole.shape[1] - 6 == (0 if kind == "siglip_vision" else 1)
    torch.testing.assert_close(found, whole[:, whole.shape[1] - 6 :])
    with pytest.raises(ContractError, match="multiples of the patch, 16"):
        PublishedImageEncoder({"eye": (32, 40)}, {"kind": kind, **VALUES[kind]})


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_padding_reaches_no_word(kind):
    torch.manual_seed(0)
    encoder = PublishedTextEncoder(12, 8, {"kind": kind, **VALUES[kind], "vocab_size": 12}).eval()
    with torch.no_grad():
        short, _ = encoder(torch.tensor([[5, 7, 3]]))
        long, real = encoder(torch.tensor([[5, 7, 3, 0, 0]]))
    torch.testing.assert_close(long[:, :3], short, rtol=1e-4, atol=1e-5)
    assert (long[:, 3:] == 0).all()
    assert real.tolist() == [[True, True, True, False, False]]
    with pytest.raises(ContractError, match=r"words is 50, .* reads at most 40"):
        PublishedTextEncoder(12, 50, {"kind": kind, **VALUES[kind], "vocab_size": 12})


class TestLanguageModel:
    @pytest.fixture(params=LANGUAGE_KINDS)
    def kind(self, request):
        return request.param

    @pytest.fixture
    def model(self, kind):
        torch.manual_seed(0)
        return PublishedTransformer({"kind": kind, **VALUES[kind]}).eval()

    def test_it_computes_what_transformers_computes(self, model):
        tokens, real = torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
        with torch.no_grad():
            found, _ = model(tokens, real)
            torch.testing.assert_close(found, model.tower(inputs_embeds=tokens).last_hidden_state)

    def test_a_later_token_changes_no_earlier_one(self, model):
        tokens, real = torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.bool)
        with torch.no_grad():
            before, _ = model(tokens, real)
            for changed in range(6):
                other = tokens.clone()
                other[:, changed] = torch.randn(16)
                difference = (model(other, real)[0] - before).abs().amax(dim=(0, 2))
                assert (difference[:changed] == 0).all()
                assert (difference[changed:] > 1e-6).all()

    def test_a_cache_and_a_look_change_nothing_and_padding_takes_no_place(self, model):
        tokens, real = torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
        real[1, 2:4] = False
        with torch.no_grad():
            whole, _ = model(tokens, real)
            looked, weights = model(tokens, real, look=True)
            cache = model.new_cache()
            parts = [model(tokens[:, a:b], real[:, :b], cache)[0] for a, b in ((0, 4), (4, 5), (5, 7))]
            without, _ = model(tokens[1:, [0, 1, 4, 5, 6]], real[1:, [0, 1, 4, 5, 6]])
        torch.testing.assert_close(torch.cat(parts, dim=1)[real], whole[real], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(looked[real], whole[real], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(without[0], whole[1, [0, 1, 4, 5, 6]], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(weights.sum(-1)[real], torch.ones(int(real.sum())))
        allowed = causal_mask(7, 7, tokens.device) & real[:, None]
        assert (weights[~allowed & real[..., None]] == 0).all()

    def test_rt2_says_nothing_but_actions_and_decodes_what_it_scores(self, kind, folder):
        network, _, sources = build("rt2", "language", folder(kind))
        load_published(network, sources)
        network.eval()
        inputs, _ = scene()
        with torch.no_grad():
            tokens = network.decode_tokens(inputs)
            assert tokens.min() >= network.first_action
            flat = tokens.flatten(2).flatten(0, 1)
            features, first = network._teacher_forcing(network.stream.prefix(inputs), flat)
            logits = network.head(features[:, first:])[..., network.first_action :]
        chosen = logits.gather(-1, (flat - network.first_action)[..., None])[..., 0]
        torch.testing.assert_close(chosen, logits.amax(dim=-1), rtol=1e-4, atol=1e-4)


def test_words_begin_with_what_the_published_ones_mean(spoken):
    network, _, sources = build("foundation", "text", spoken)
    kept = load_published(network, sources, ("pick", "cube", "up", "dragon"))
    assert kept == {"text": ["the word 'dragon'"]}
    theirs = transformers.BertModel.from_pretrained(spoken).embeddings.word_embeddings.weight
    table = network.text.tower.embeddings.word_embeddings.weight
    torch.testing.assert_close(table[2], theirs[5])
    torch.testing.assert_close(table[3], (theirs[8] + theirs[9]) / 2)  # "cu" and "##be"
    torch.testing.assert_close(table[4], theirs[6])


def test_without_a_tokenizer_the_words_are_random_and_said_to_be(folder):
    network, _, sources = build("foundation", "text", folder("bert"))
    assert load_published(network, sources, ("pick", "cube")) == {"text": ["embeddings.word_embeddings.weight"]}


def test_clip_whole_serves_as_its_vision_half(folder):
    network, values, sources = build("unified", "vision", folder("clip"))
    assert values["vision"]["kind"] == "clip_vision"
    assert load_published(network, sources) == {"vision": []}
    theirs = transformers.CLIPModel.from_pretrained(folder("clip")).vision_model
    image = standardize(torch.rand(1, 3, 32, 48), *IMAGE_STATISTICS["clip_vision"])
    with torch.no_grad():
        torch.testing.assert_close(
            network.stream.images.tower(pixel_values=image, interpolate_pos_encoding=True).last_hidden_state,
            theirs(pixel_values=image, interpolate_pos_encoding=True).last_hidden_state,
        )


def test_a_network_without_sources_is_built_from_values_alone():
    values = {**NEEDED, "patch": 16, "vision": {"kind": "vit", **VALUES["vit"]}}
    plain, sources = name_sources(model_class("unified"), values)
    assert (plain, sources) == (values, {})
    assert build_model("unified", values).backbones().keys() == {"vision"}


@pytest.mark.parametrize("source", ["some-one/some-network", "/nowhere/at/all"])
@pytest.mark.parametrize(("name", "line"), [("foundation", "vision"), ("foundation", "text"), ("rt2", "language")])
def test_what_cannot_be_had_is_named_with_what_to_do(name, line, source, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ContractError) as error:
        name_sources(model_class(name), {**NEEDED, line: source})
    assert source in str(error.value)
    assert "Check the name and the network, or download it elsewhere and name the folder" in str(error.value)


def test_a_backbone_of_another_kind_is_refused(folder):
    with pytest.raises(ContractError, match="of type 'bert', expected one of clip_vision"):
        name_sources(model_class("rt2"), {**NEEDED, "vision": str(folder("bert"))})
    with pytest.raises(ContractError, match="vision: kind is 'bert', expected one of clip_vision"):
        build_model("rt2", {**NEEDED, "vision": {"kind": "bert"}})
    with pytest.raises(ContractError, match="language: kind is None"):
        build_model("rt2", {**NEEDED, "language": {}})


def test_pickled_weights_are_refused(folder, tmp_path):
    network, _, _ = build("foundation", "vision", folder("vit"))
    shutil.copy(folder("vit") / "config.json", tmp_path)
    torch.save(network.images.tower.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ContractError, match="cannot be read as a ViTModel"):
        load_published(network, {"vision": str(tmp_path)})


def test_options_are_read_as_yaml():
    assert read_options(["width=96", "vision=a/b", "recurrent=true", "vision_values={a: 1}"]) == {
        "width": 96,
        "vision": "a/b",
        "recurrent": True,
        "vision_values": {"a": 1},
    }
    for wrong, match in (("width", "name=value"), ("=3", "name=value"), ("width={", "no value")):
        with pytest.raises(ContractError, match=match):
            read_options([wrong])
    with pytest.raises(ContractError, match="no size 'huge', expected one of tiny, base, full"):
        model_values("flow", NEEDED, {"size": "huge"}, 4)


def test_sentences_fit_the_places_for_words():
    assert model_values("flow", NEEDED, {"size": "tiny"}, 40)[0]["words"] == 40
    assert model_values("flow", NEEDED, {"size": "tiny"}, 4)[0]["words"] == 16
    assert model_values("keypoint", NEEDED, {"size": "tiny"}, 40)[0].get("words") is None
