"""Networks that draw their chunks plan on from the chunk under way; any other one says that it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.errors import ChunkError
from vla_ros.language.tokenizer import WordTokenizer
from vla_ros.models.build import build_model
from vla_ros.models.checkpoint import PolicyBundle, save_checkpoint
from vla_ros.models.options import model_values
from vla_ros.policies.execution.executor import ChunkExecutor
from vla_ros.policies.execution.settings import ExecutionSettings, Mode
from vla_ros.policies.local import LocalPolicy
from vla_ros.policies.protocol import Prefix, accepts_prefix
from vla_ros.processing.features import CameraFeature, PolicyFeatures, tool_state
from vla_ros.processing.normalizer import Normalizer
from vla_ros.processing.processor import Processor, Statistics
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import Instruction, Observation, RobotState

CONTRACT = load_contract("panda")
SPACE = CONTRACT.action
WORDS = ("pick", "up", "the", "red", "cube")
RED = Instruction("pick up the red cube", 1)


def checkpoint(folder: Path, model: str, history: int = 1) -> Path:
    """Random weights that fit the robot."""
    cameras = tuple(CameraFeature(c.name, c.policy_height, c.policy_width) for c in CONTRACT.cameras)
    features = PolicyFeatures(cameras, tool_state(SPACE), SPACE, words=12, history=history)
    needed = {
        "cameras": features.network_cameras,
        "vocabulary": len(WORDS) + 2,
        "state_width": features.network_state_width,
        "horizon": SPACE.horizon,
    }
    config, _ = model_values(model, needed, {"size": "tiny"}, 12)
    rows = Normalizer.by_mean(np.zeros((SPACE.horizon, 6)), np.full((SPACE.horizon, 6), 0.02))
    state = Normalizer.by_mean(np.zeros(features.state_width), np.ones(features.state_width))
    processor = Processor(features, Statistics(state, rows), WordTokenizer(WORDS))
    torch.manual_seed(0)
    save_checkpoint(folder, build_model(model, config), PolicyBundle(model, config, processor, CONTRACT.text, {}))
    return folder


def observation(stamp: float) -> Observation:
    home = CONTRACT.joints.home
    state = RobotState(home, np.zeros(7), 0.08, Kinematics(CONTRACT).forward(home), stamp)
    rng = np.random.default_rng(int(10 * stamp))
    images = {
        c.name: rng.integers(0, 255, (c.policy_height, c.policy_width, 3), dtype=np.uint8) for c in CONTRACT.cameras
    }
    return Observation(images, state, RED, stamp)


@pytest.fixture(scope="module", params=["flow", "diffusion"])
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalPolicy:
    made = LocalPolicy(checkpoint(tmp_path_factory.mktemp(request.param), request.param), CONTRACT, "cpu")
    made.reset(RED)
    return made


def test_free_prefix_changes_nothing(policy: LocalPolicy) -> None:
    assert accepts_prefix(policy)
    plain = policy.predict(observation(1.0))
    free = policy.predict_from(observation(1.0), Prefix(np.ones((4, SPACE.width)), np.zeros(4)))
    assert free.actions == pytest.approx(plain.actions, abs=1e-5)
    assert free.specification == SPACE.fingerprint


def test_firm_prefix_pulls_its_rows(policy: LocalPolicy) -> None:
    """Weights are random: the rows come nearer, which a trained network does all the way (models/test_guidance.py)."""
    plain = policy.predict(observation(1.0)).actions
    known = plain[:4] + np.array([0.01, -0.01, 0.01, 0.0, 0.0, 0.0, 0.0])
    guided = policy.predict_from(observation(1.0), Prefix(known, np.ones(4))).actions
    assert np.abs(guided[:4, :3] - known[:, :3]).mean() < np.abs(plain[:4, :3] - known[:, :3]).mean()


def test_executor_plans_on_from_the_chunk_under_way(policy: LocalPolicy) -> None:
    executor = ChunkExecutor(policy, CONTRACT, ExecutionSettings(Mode.REAL_TIME_CHUNKING))
    executor.reset(RED)
    first = executor.predict(observation(1.0))
    executor.delivered(first, 0.15)
    second = executor.predict(observation(1.2))
    if executor.execution.frozen:  # random rows may be too far from where the arm is
        assert executor.execution.frozen == 2
    assert second.horizon == SPACE.horizon
    assert np.isfinite(second.actions).all()


def test_history_holds_what_was_seen_with_and_without_a_prefix(tmp_path: Path) -> None:
    policy = LocalPolicy(checkpoint(tmp_path / "flow", "flow", history=2), CONTRACT, "cpu")
    free, stamps = Prefix(np.zeros((4, SPACE.width)), np.zeros(4)), (1.0, 1.1, 1.2)
    policy.reset(RED)
    plain = [policy.predict(observation(stamp)).actions for stamp in stamps]
    policy.reset(RED)
    first = policy.predict(observation(stamps[0])).actions
    mixed = [first, *(policy.predict_from(observation(stamp), free).actions for stamp in stamps[1:])]
    np.testing.assert_allclose(mixed, plain, atol=1e-5)
    policy.reset(RED)
    alone = policy.predict_from(observation(stamps[2]), free).actions
    assert not np.allclose(alone, plain[2], atol=1e-5)


@pytest.mark.parametrize("rows", [np.zeros((SPACE.horizon + 1, SPACE.width)), np.zeros((3, SPACE.width + 1))])
def test_prefix_of_another_shape_is_refused(policy: LocalPolicy, rows: np.ndarray) -> None:
    with pytest.raises(ChunkError, match="expected at most 12 x 7"):
        policy.predict_from(observation(1.0), Prefix(rows, np.zeros(len(rows))))


def test_network_that_regresses_its_chunks_cannot(tmp_path: Path) -> None:
    policy = LocalPolicy(checkpoint(tmp_path / "keypoint", "keypoint"), CONTRACT, "cpu")
    policy.reset(RED)
    assert not accepts_prefix(policy)
    with pytest.raises(ChunkError, match="does not plan on from a prefix"):
        policy.predict_from(observation(1.0), Prefix(np.zeros((1, SPACE.width)), np.ones(1)))
