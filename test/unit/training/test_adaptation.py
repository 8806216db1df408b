"""Fine-tuning changes what it adds and nothing else, and what is saved acts as what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.errors import CheckpointError, ContractError, VlaError
from vla_ros.models.build import build_model
from vla_ros.models.checkpoint import load_bundle, load_checkpoint
from vla_ros.models.contract import ModelInput
from vla_ros.robot.contract import load_contract
from vla_ros.training.algorithms.adaptation import Adaptation, adapt, merge_lora
from vla_ros.training.algorithms.behavioral_cloning import BcOptions, train_policy
from vla_ros.training.datasets.pick import PickDataset
from vla_ros.training.loop_options import LoopOptions

CPU = torch.device("cpu")
CONTRACT = load_contract("panda")
SIZES = {"cameras": {"front": (32, 32)}, "vocabulary": 9, "state_width": 10, "horizon": 4}
LORA = Adaptation("lora", rank=4, layers="plan.*")
ADAPTERS = Adaptation("adapters", rank=4, layers="plan.*")


def inputs() -> ModelInput:
    torch.manual_seed(3)
    return ModelInput({"front": torch.rand(2, 3, 32, 32)}, torch.randn(2, 10), torch.randint(2, 9, (2, 1, 5)))


@pytest.mark.parametrize("adaptation", [LORA, ADAPTERS], ids=lambda a: a.method)
def test_nothing_changes_before_it_is_trained_and_little_is_trained(adaptation: Adaptation) -> None:
    torch.manual_seed(0)
    network = build_model("keypoint", SIZES).eval()
    everything = network.parameter_count
    before = network.predict(inputs()).continuous
    assert adapt(network, adaptation) == ["plan.0", "plan.2", "plan.4"]
    torch.testing.assert_close(network.eval().predict(inputs()).continuous, before)
    assert 0 < network.parameter_count < 0.05 * everything


@pytest.mark.parametrize("adaptation", [LORA, ADAPTERS], ids=lambda a: a.method)
def test_what_is_saved_acts_as_what_was_trained(adaptation: Adaptation, dataset: PickDataset, tmp_path: Path) -> None:
    train_policy(dataset, CONTRACT, "keypoint", tmp_path / "base", BcOptions(LoopOptions(steps=2), 4), CPU)
    options = BcOptions(
        LoopOptions(steps=4, learning_rate=1e-2, warm_up=0, ema_decay=0.0),
        4,
        adaptation=adaptation,
        start_from=tmp_path / "base",
    )
    train_policy(dataset, CONTRACT, "keypoint", tmp_path / "tuned", options, CPU)
    base, _ = load_checkpoint(tmp_path / "base", CPU)
    tuned, bundle = load_checkpoint(tmp_path / "tuned", CPU)
    state = torch.load(tmp_path / "tuned" / "training_state.pt", weights_only=True)["averaged"]

    # Whatever is not adapted is bit for bit the base's.
    names = tuned.state_dict().keys() & base.state_dict().keys()
    others = [name for name in names if not name.startswith("plan")]
    assert others and all(torch.equal(tuned.state_dict()[name], base.state_dict()[name]) for name in others)

    # The training's own network, put together again, says the same.
    trained = load_checkpoint(tmp_path / "base", CPU)[0]
    adapt(trained, adaptation)
    trained.load_state_dict(state)
    batch = dataset.batch(np.arange(3), np.random.default_rng(0))[0]
    with torch.no_grad():
        target = trained.eval().predict(batch).continuous
        torch.testing.assert_close(tuned.predict(batch).continuous, target, rtol=1e-4, atol=1e-5)
        assert float((base.predict(batch).continuous - target).abs().max()) > 1e-3
    assert ("adapters" in bundle.model_config) == (adaptation.method == "adapters")


def test_merging_by_hand() -> None:
    network = build_model("keypoint", SIZES)
    adapt(network, Adaptation("lora", rank=2, scale=3.0, layers="present"))
    layer = network.present
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
    target = layer.base_layer.weight + 3.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    target = target.detach().clone()
    torch.testing.assert_close(merge_lora(network).present.weight, target)
    assert type(network.present) is torch.nn.Linear


def test_layers_that_do_not_exist_are_named(tmp_path: Path) -> None:
    with pytest.raises(VlaError, match="matches none of"):
        adapt(build_model("keypoint", SIZES), Adaptation("lora", layers="nowhere"))
    with pytest.raises(VlaError, match="method 'other'"):
        Adaptation("other")
    with pytest.raises(ContractError, match="no layer 'nowhere'"):
        build_model("keypoint", {**SIZES, "adapters": {"layers": ["nowhere"], "width": 2}})
    with pytest.raises(CheckpointError):
        load_bundle(tmp_path)
