import builtins
import subprocess
import sys

import pytest
import torch
from torch import nn

from vla_ros.errors import ContractError
from vla_ros.models.layers.backbones import (
    FrozenBatchNorm2d,
    build_tower,
    choose_norm,
    load_weights,
    padding_mask,
    read_values,
    standardize,
    transformers,
)

BERT = {"vocab_size": 20, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 8}


def small_bert(seed=0):
    torch.manual_seed(seed)
    return build_tower("distilbert", BERT).eval()


def test_without_transformers_the_error_names_the_command(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name == "transformers":
            raise ImportError("No module named 'transformers'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ContractError, match=r"pip install 'vla_ros\[models\]'"):
        transformers()


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are cut off by name")
def test_building_opens_no_connection_and_importing_the_models_needs_no_transformers():
    code = """
import socket, sys
def refuse(*a, **k): raise AssertionError("a connection")
socket.socket.connect = socket.getaddrinfo = refuse
from vla_ros.models.build import MODELS, build_model, model_class
networks = {name: model_class(name) for name in MODELS}
assert "transformers" not in sys.modules
sizes = {"cameras": {"eye": (64, 64)}, "vocabulary": 9, "state_width": 3, "horizon": 2}
for name, network in networks.items():
    build_model(name, network.tiny_config(**sizes))
published = {"vision": {"kind": "vit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}}
build_model("foundation", {**networks["foundation"].tiny_config(**sizes), **published})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


class TestWithTransformers:
    @pytest.fixture(autouse=True)
    def _needed(self):
        pytest.importorskip("transformers")

    def test_a_folder_gives_sizes_and_weights(self, tmp_path):
        theirs = small_bert()
        theirs.save_pretrained(tmp_path)
        ours = build_tower("distilbert", read_values("distilbert", str(tmp_path))).eval()
        tokens = torch.tensor([[3, 4, 5]])
        assert not torch.allclose(ours(tokens).last_hidden_state, theirs(tokens).last_hidden_state)
        assert load_weights(ours, str(tmp_path)) == []
        assert torch.allclose(ours(tokens).last_hidden_state, theirs(tokens).last_hidden_state, atol=1e-6)

    def test_weights_of_another_size_are_refused(self, tmp_path):
        small_bert().save_pretrained(tmp_path)
        other = build_tower("distilbert", {**BERT, "vocab_size": 30})
        with pytest.raises(ContractError, match=r"word_embeddings.*\(20, 16\) for \(30, 16\)"):
            load_weights(other, str(tmp_path))
        assert load_weights(other, str(tmp_path), ("word_embeddings.weight",)) == ["embeddings.word_embeddings.weight"]

    @pytest.mark.parametrize("source", ["distilbert-base-uncased", "/nowhere/at/all"])
    def test_what_cannot_be_had_is_named_with_what_to_do(self, source, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        for attempt in (lambda: read_values("distilbert", source), lambda: load_weights(small_bert(), source)):
            with pytest.raises(ContractError) as error:
                attempt()
            assert source in str(error.value)
            assert "name the folder" in str(error.value)

    def test_unknown_names_and_values_are_refused(self):
        with pytest.raises(ContractError, match=r"no backbone 'resnet', expected one of clip, distilbert"):
            build_tower("resnet", {})
        with pytest.raises(ContractError, match=r"no value \['dimm'\]"):
            build_tower("distilbert", {**BERT, "dimm": 3})
        with pytest.raises(ContractError, match="cannot be built"):
            build_tower("distilbert", {**BERT, "n_heads": 3})

    def test_group_normalisation_keeps_the_picture_alive_through_training(self):
        # With the towers' own small weights and epsilon, a few steps of Adam make all pictures look the same to them.
        torch.manual_seed(0)
        values = {"depth_multiplier": 0.25, "min_depth": 8, "finegrained_output": False}
        tower = choose_norm(build_tower("mobilenet_v2", values), "group")
        assert not any(isinstance(m, nn.BatchNorm2d) for m in tower.modules())
        images, target = torch.rand(8, 3, 32, 32), torch.randn(8, 320)
        optimiser = torch.optim.Adam(tower.parameters(), 3e-3)
        for _ in range(12):
            loss = (tower(images).last_hidden_state.mean(dim=(2, 3)) - target).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            seen = tower(images).last_hidden_state
        assert seen.std(dim=0).mean() > 0.1 * seen.std()

    def test_frozen_statistics_stay(self):
        tower = choose_norm(build_tower("mobilenet_v2", {"depth_multiplier": 0.25, "min_depth": 8}), "frozen").train()
        norms = [m for m in tower.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms
        assert all(isinstance(m, FrozenBatchNorm2d) for m in norms)
        before = [m.running_mean.clone() for m in norms]
        tower(torch.rand(4, 3, 32, 32))
        assert all(torch.equal(m.running_mean, b) for m, b in zip(norms, before, strict=True))
        with pytest.raises(ContractError, match="norm is 'layer', expected one of group, batch, frozen"):
            choose_norm(tower, "layer")


def test_standardise_and_padding():
    image = torch.full((1, 3, 2, 2), 0.5)
    out = standardize(image, (0.5, 0.25, 0.0), (0.5, 0.5, 0.25))
    assert out[0, :, 0, 0].tolist() == [0.0, 0.5, 2.0]
    assert padding_mask(torch.tensor([[4, 5, 0], [0, 0, 0]])).tolist() == [[1, 1, 0], [1, 0, 0]]
