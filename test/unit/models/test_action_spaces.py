"""Networks of other action spaces than one tool's: six joints, two arms of seven columns each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ContractError
from vla_ros.language.tokenizer import WordTokenizer
from vla_ros.models.build import MODELS, build_model, model_class
from vla_ros.models.checkpoint import PolicyBundle, load_checkpoint, save_checkpoint
from vla_ros.models.columns import ActionColumns, take
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.processing.features import CameraFeature, PolicyFeatures, default_state
from vla_ros.processing.normalizer import Method, Normalizer
from vla_ros.processing.processor import Processor, Statistics

HORIZON = 4
SO101 = ActionSpace.from_dict(
    {
        "groups": [
            {"group": "arm/joint_position", "joints": 5, "unit": "degrees"},
            {"group": "arm/gripper", "gripper": "open_is_hundred"},
        ],
        "rate_hz": 30.0,
        "horizon": HORIZON,
    }
)
ALOHA = ActionSpace.from_dict(
    {
        "groups": [
            {"group": "left/joint_position", "joints": 6},
            {"group": "left/gripper", "gripper": "open_is_one"},
            {"group": "right/joint_position", "joints": 6},
            {"group": "right/gripper", "gripper": "open_is_one"},
        ],
        "rate_hz": 50.0,
        "horizon": HORIZON,
    }
)
FREE = [name for name in MODELS if not model_class(name).LEARNS_PLACES]
METRIC = [name for name in MODELS if model_class(name).LEARNS_PLACES]


class Recorded:
    """Eight steps: from the state the joints go on their way, and grippers open fully that are open."""

    def __init__(self, action: ActionSpace) -> None:
        rng = np.random.default_rng(0)
        features = PolicyFeatures((CameraFeature("front", 32, 32),), default_state(action), action, words=2)
        scale = 60.0 if action is SO101 else 1.0
        self.states = rng.uniform(-scale, scale, (8, features.state_width))
        ahead = np.linspace(0.1, 0.4, HORIZON)[:, None]
        self.chunks = self.states[:, None] * (1.0 + ahead) + 0.2 * scale * ahead
        for column in features.binary_columns:
            self.chunks[:, :, column] = self.states[:, column, None] > 0.0
        columns = list(features.continuous_columns)
        statistics = Statistics(
            Normalizer.fit(self.states, 1e-3, Method.QUANTILE),
            Normalizer.fit(self.chunks[..., columns], 1e-3, Method.QUANTILE),
        )
        self.processor = Processor(features, statistics, WordTokenizer(("lift", "it")))
        images = rng.integers(0, 256, (8, 32, 32, 3), np.uint8)
        self.inputs = ModelInput(
            {"front": torch.cat([self.processor.images({"front": image})["front"] for image in images])},
            self.processor.state(self.states),
            self.processor.tokens(["lift it"] * 8)[:, None],
        )
        continuous, binary = self.processor.targets(self.chunks)
        self.target = ModelTarget(continuous[:, None], binary[:, None], torch.ones(8, 1))

    def config(self, name: str) -> dict[str, object]:
        features = self.processor.features
        sizes = {"front": [32, 32]}
        tiny = model_class(name).tiny_config(sizes, self.processor.tokenizer.size, features.state_width, HORIZON)
        if name == "clip":
            tiny["towers"]["vision_config"]["image_size"] = 32
        return {**tiny, "action": ActionColumns.of(features).to_dict()}


def output(data: Recorded, network: torch.nn.Module, rows: Sequence[int]) -> np.ndarray:
    """Return the chunks that a network says, in the units of the actions."""
    with torch.no_grad():
        output = network.eval().predict(data.inputs)
    return np.stack([data.processor.actions(output.continuous[row, 0], output.binary[row, 0]) for row in rows])


@pytest.mark.parametrize("name", ["unified", "flow"])
@pytest.mark.parametrize("action", [SO101, ALOHA], ids=["six joints", "two arms"])
def test_network_overfits_joint_chunks(name: str, action: ActionSpace, tmp_path: Path) -> None:
    data = Recorded(action)
    torch.manual_seed(0)
    config = data.config(name)
    network = build_model(name, config)
    steps = 300 if name == "flow" else 200
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        loss, parts = network.train().compute_loss(data.inputs, data.target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    assert "rotation" not in parts
    chunks = output(data, network, range(8))
    wrong = np.abs(chunks - data.chunks)
    columns = list(data.processor.features.continuous_columns)
    spread = data.chunks[..., columns].std()
    assert wrong[..., columns].mean() < 0.15 * spread, wrong[..., columns].mean() / spread
    if action is ALOHA:
        binary = list(data.processor.features.binary_columns)
        assert (wrong[..., binary] > 0.5).mean() < 0.05
    save_checkpoint(tmp_path, network, PolicyBundle(name, config, data.processor, "", {}))
    again, bundle = load_checkpoint(tmp_path, torch.device("cpu"))
    assert bundle.action == action and bundle.processor.to_dict() == data.processor.to_dict()
    np.testing.assert_allclose(output(data, again, range(8)), chunks, atol=1e-5)


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("action", [SO101, ALOHA], ids=["six joints", "two arms"])
def test_every_network_that_is_not_taught_places_takes_the_space(name: str, action: ActionSpace) -> None:
    if name in ("clip", "memory_efficient", "real_time"):
        pytest.importorskip("transformers")
    data = Recorded(action)
    network = build_model(name, data.config(name))
    loss, _ = network.compute_loss(data.inputs, data.target)
    loss.backward()
    chunks = output(data, network, [0])
    assert torch.isfinite(loss) and chunks.shape == (1, HORIZON, action.width) and np.isfinite(chunks).all()
    inspection = network.inspect(data.inputs)
    assert inspection.heads["continuous"].shape[-1] == len(data.processor.features.continuous_columns)


@pytest.mark.parametrize("name", METRIC)
def test_network_in_metric_space_refuses_joints(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContractError, match=r"needs actions of one tool.*'continuous': 6, 'binary': 0"):
        build_model(name, Recorded(SO101).config(name))


@pytest.mark.parametrize(
    "values",
    [
        {"continuous": 6, "binary": 1},
        {"continuous": 0, "binary": 0, "rotations": []},
        {"continuous": 3, "binary": 0, "rotations": [3]},
        {"continuous": "six", "binary": 0, "rotations": []},
        7,
    ],
)
def test_columns_that_are_none_are_refused(values: object) -> None:
    with pytest.raises(ContractError, match="action"):
        build_model("unified", {**Recorded(SO101).config("unified"), "action": values})


def test_columns_are_taken_by_their_places() -> None:
    values = torch.arange(12.0).view(2, 6)
    assert torch.equal(take(values, (2, 3, 4)), values[:, 2:5])
    assert torch.equal(take(values, (0, 5)), values[:, [0, 5]])
