"""Two data sets of opposite motions, in one mixture: each sentence is commanded its own way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from vla_ros.cli import main as cli
from vla_ros.policies.build import load_policy
from vla_ros.types import Instruction, Observation, Pose, RobotState

WAY = 0.07
"""How far the thing is pushed, m."""


def _push(recordings, name: str, seed: int, side: int):  # type: ignore[no-untyped-def]
    steps = []
    for step in recordings.walk(name, 8, seed=seed, instruction=f"push it {'left' if side > 0 else 'right'}"):
        state = step.proprioception.copy()
        state[7:10] = 0.5, side * WAY * step.index / 8, 0.2
        state[10:14] = 1.0, 0.0, 0.0, 0.0
        action = np.array([0.0, side * WAY - state[8], 0.0, 0.0, 0.0, 0.0, 0.0])  # one place, seen from here
        steps.append(replace(step, proprioception=state, action=action))
    return steps


def test_mixture_of_opposite_pushes_commands_each(recordings, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    for word, side in (("left", 1), ("right", -1)):
        episodes = [_push(recordings, f"{word} {seed}", seed, side) for seed in range(6)]
        recordings.write(tmp_path / word, episodes, video_files=False)
    config = {
        "model": "unified",
        "out": "out",
        "batch": 16,
        "model_options": {"size": "tiny"},
        "data": {"folders": ["left", "right"]},
        "loop": {"steps": 300, "learning_rate": 0.003, "warm_up": 10, "ema_decay": 0.9},
    }
    (tmp_path / "push.yaml").write_text(json.dumps(config))
    assert cli.main(["train", "--config", "push.yaml", "--device", "cpu", "--threads", "1"]) == 0
    policy = load_policy(str(tmp_path / "out"), recordings.contract, "cpu")
    first = _push(recordings, "new", 9, 1)[0]
    state = RobotState(np.zeros(7), np.zeros(7), 0.04, Pose(first.proprioception[7:10], first.proprioception[10:14]), 0)
    for word, side in (("left", 1), ("right", -1)):
        policy.reset(Instruction(f"push it {word}"))
        chunk = policy.predict(Observation(first.images, state, None, 0.0)).actions
        np.testing.assert_allclose(chunk[:, 1], side * WAY, atol=0.01)
        np.testing.assert_allclose(chunk[:, [0, 2]], 0.0, atol=0.01)
