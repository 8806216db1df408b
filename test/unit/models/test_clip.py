import pytest
import torch
from torch.nn import functional

from vla_ros.errors import ContractError
from vla_ros.models.contract import ModelInput

pytest.importorskip("transformers")

from vla_ros.models.layers.backbones import standardize
from vla_ros.models.layers.published import load_published
from vla_ros.models.networks.clip import ClipModel, with_end

SMALL = ClipModel.tiny_config({"eye": (96, 96)}, 20, 4, 3)


def build(**changes):
    torch.manual_seed(0)
    return ClipModel.from_config({**SMALL, **changes}).eval()


def pictures(count=3, size=(96, 96)):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


TOKENS = torch.tensor([[5, 3, 7, 0, 0], [5, 3, 7, 2, 9], [4, 0, 0, 0, 0]])


def test_the_end_mark_stands_behind_the_last_word():
    assert with_end(TOKENS, 20).tolist() == [[5, 3, 7, 20, 0, 0], [5, 3, 7, 2, 9, 20], [4, 20, 0, 0, 0, 0]]


def test_similarity_is_that_of_transformers():
    network = build()
    ended = with_end(TOKENS, 20)
    theirs = network.clip(
        input_ids=ended,
        attention_mask=(ended != 0).long(),
        pixel_values=standardize(pictures(), (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    )
    with torch.no_grad():
        assert torch.allclose(network.compute_similarity(pictures(), TOKENS), theirs.logits_per_image, atol=1e-5)
        assert torch.allclose(network.encode_images(pictures()), theirs.image_embeds, atol=1e-6)
        assert torch.allclose(network.encode_text(TOKENS), theirs.text_embeds, atol=1e-6)
    assert theirs.text_embeds.shape == (3, 32)
    assert (theirs.text_embeds[0] - theirs.text_embeds[1]).abs().max() > 1e-3


def test_features_are_unit_and_padding_changes_nothing():
    network = build()
    with torch.no_grad():
        assert torch.allclose(network.encode_images(pictures()).norm(dim=-1), torch.ones(3), atol=1e-6)
        short, long = network.encode_text(TOKENS[:1, :3]), network.encode_text(TOKENS[:1])
    assert torch.allclose(short, long, atol=1e-6)
    assert torch.allclose(short.norm(dim=-1), torch.ones(1), atol=1e-6)


def test_similarity_learns_which_sentence_goes_with_which_picture():
    network = build().train()
    images, optimiser = pictures(), torch.optim.Adam(network.clip.parameters(), 1e-3)
    for _ in range(25):
        similarity = network.compute_similarity(images, TOKENS)
        loss = functional.cross_entropy(similarity, torch.arange(3)) + functional.cross_entropy(
            similarity.T, torch.arange(3)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        assert network.compute_similarity(images, TOKENS).argmax(dim=1).tolist() == [0, 1, 2]


def test_the_look_is_the_cosine_between_sentence_and_patches():
    network = build()
    inputs = ModelInput({"eye": pictures(1)}, torch.zeros(1, 4), TOKENS[None, :2])
    with torch.no_grad():
        look = network.predict(inputs).attention["eye"]
        hidden = network.clip.vision_model(standardize(pictures(1), *CLIP_STATISTICS)).last_hidden_state[0, 1:]
        patches = network.clip.visual_projection(network.clip.vision_model.post_layernorm(hidden))
        cosine = functional.cosine_similarity(patches[None], network.encode_text(TOKENS[:2])[:, None], dim=-1)
        expected = (network.clip.logit_scale.exp() * cosine).softmax(dim=-1).view(2, 3, 3)
    assert torch.allclose(look[0], expected, atol=1e-5)


CLIP_STATISTICS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def test_frozen_towers_do_not_learn():
    network = build(freeze=True)
    assert not any(p.requires_grad for p in network.clip.parameters())
    assert any(p.requires_grad for p in network.decoder.parameters())
    assert network.parameter_count < build().parameter_count


def test_published_weights_are_taken_but_for_the_words(tmp_path):
    theirs = build()
    theirs.clip.save_pretrained(tmp_path)
    torch.manual_seed(5)
    ours = ClipModel.from_config({**SMALL, "vocabulary": 11})
    kept = load_published(ours, {"towers": str(tmp_path)})
    assert kept == {"towers": ["text_model.embeddings.token_embedding.weight"]}
    with torch.no_grad():
        assert torch.allclose(ours.eval().encode_images(pictures()), theirs.encode_images(pictures()), atol=1e-6)
    torch.manual_seed(5)
    same = ClipModel.from_config(SMALL).eval()
    assert load_published(same, {"towers": str(tmp_path)}) == {"towers": []}
    with torch.no_grad():
        assert torch.allclose(same.encode_text(TOKENS), theirs.encode_text(TOKENS), atol=1e-6)


def test_unusable_values_are_refused():
    with pytest.raises(ContractError, match=r"\(90, 96\).*patch, 32"):
        build(cameras={"eye": (90, 96)})
