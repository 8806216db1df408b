import pytest
import torch

from vla_ros.errors import ContractError
from vla_ros.models.contract import ModelInput, ModelTarget

pytest.importorskip("transformers")

from vla_ros.models.measurement.footprint import PeakMemory
from vla_ros.models.networks.memory_efficient import MemoryEfficientModel

SMALL = {**MemoryEfficientModel.tiny_config({"eye": (64, 64)}, 12, 4, 3), "shrink": 1}


def build(**changes):
    torch.manual_seed(0)
    return MemoryEfficientModel.from_config({**SMALL, **changes}).train()


def batch(count=4):
    generator = torch.Generator().manual_seed(0)
    inputs = ModelInput(
        {"eye": torch.rand(count, 3, 64, 64, generator=generator)},
        torch.randn(count, 4, generator=generator),
        torch.randint(1, 12, (count, 2, 5), generator=generator),
    )
    target = ModelTarget(
        torch.randn(count, 2, 3, 6, generator=generator),
        torch.ones(count, 2, 3, 1),
        torch.ones(count, 2),
        torch.zeros(count, 2, 3),
    )
    return inputs, target


def test_checkpointing_changes_neither_loss_nor_gradient():
    results = []
    for checkpointing in (True, False):
        network = build(checkpointing=checkpointing)
        loss, _ = network.compute_loss(*batch())
        loss.backward()
        results.append((loss.item(), {n: p.grad for n, p in network.named_parameters()}))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for name, gradient in results[0][1].items():
        assert torch.allclose(gradient, results[1][1][name], atol=1e-5), name


def peak(network, count=8):
    inputs, target = batch(count)
    with PeakMemory() as memory:
        network.compute_loss(inputs, target)[0].backward()
    return memory.peak


def test_checkpointing_needs_less_memory():
    deep = {**SMALL["vision"], "depth_coefficient": 1.0}  # as deep as B0
    plain, careful = (peak(build(checkpointing=c, vision=deep)) for c in (False, True))
    assert careful < 0.6 * plain, f"{careful / 1e6:.1f} MB of {plain / 1e6:.1f} MB"


def test_one_checkpoint_for_a_whole_tower_would_save_less(monkeypatch):
    from torch.utils.checkpoint import checkpoint

    blocks = peak(build(checkpointing=True))
    network = build(checkpointing=False)
    see, read = network._encode_image, network._encode_text
    monkeypatch.setattr(network, "_encode_image", lambda image: checkpoint(see, image, use_reentrant=False))
    monkeypatch.setattr(network, "_encode_text", lambda tokens: checkpoint(read, tokens, use_reentrant=False))
    assert blocks < peak(network)


def test_the_towers_compute_what_transformers_computes():
    network = build(norm="batch").eval()
    inputs, _ = batch(2)
    from vla_ros.models.layers.backbones import IMAGENET, padding_mask, standardize

    tokens = torch.tensor([[3, 4, 5, 0], [6, 0, 0, 0]])
    with torch.no_grad():
        ours = network._encode_image(inputs.images["eye"])
        theirs = network.vision(standardize(inputs.images["eye"], *IMAGENET)).last_hidden_state
        assert torch.allclose(ours, theirs, atol=1e-6)
        mask = padding_mask(tokens)
        hidden = network.text(tokens, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        assert torch.allclose(network._encode_text(tokens), mean, atol=1e-5)
        assert torch.allclose(network._encode_text(tokens[1:, :1]), mean[1:], atol=1e-5)  # padding reaches no word


def test_bytes_are_counted_by_hand():
    before = torch.zeros(500)
    with PeakMemory() as memory:
        before.add_(1.0)
        assert memory.now == 0  # what was there before does not count
        first = torch.zeros(1000)  # 4000 bytes
        second = first + 1.0
        view = second.view(10, 100)
        assert memory.now == 8000
        del second
        assert memory.now == 8000  # the view holds it
        del view
        assert memory.now == 4000
        first.add_(1.0)
        assert memory.now == 4000
    assert memory.peak == 8000


def test_the_full_width_agrees_with_transformers():
    # The hidden_dim of the published configurations: B0 1280, B2 1408, B3 1536, B7 2560.
    from transformers import EfficientNetConfig
    from transformers.models.efficientnet.modeling_efficientnet import round_filters

    from vla_ros.models.networks.memory_efficient import _vision_values

    for scale, width in ((1.0, 1280), (1.1, 1408), (1.2, 1536), (2.0, 2560), (0.25, 320), (0.009, 16)):
        assert round_filters(EfficientNetConfig(width_coefficient=scale), 1280) == width
        assert _vision_values({"width_coefficient": scale})["hidden_dim"] == width
    with pytest.raises(ContractError, match="width_coefficient is 0"):
        _vision_values({"width_coefficient": 0})
