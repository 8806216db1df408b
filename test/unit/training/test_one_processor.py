"""The same observation through the live policy and through each data set gives identical tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vla_ros.data.catalogue import Line, open_dataset
from vla_ros.data.episodes.demonstrations import Episode, read_episodes
from vla_ros.data.step import GRIPPER_NAME, Step
from vla_ros.language.lexicon import ALL_WORDS
from vla_ros.language.phrasing import held_out_words, taught_words
from vla_ros.models.build import build_model
from vla_ros.models.checkpoint import save_checkpoint
from vla_ros.models.contract import ModelInput
from vla_ros.policies.local import LocalPolicy
from vla_ros.processing.images import image_tensor
from vla_ros.robot.contract import load_contract
from vla_ros.training.algorithms.behavioral_cloning import Demonstrations, make_bundle
from vla_ros.training.datasets import pick as pick_module
from vla_ros.training.datasets import tabletop as tabletop_module
from vla_ros.training.datasets.pick import PickDataset
from vla_ros.training.datasets.recorded import Augmentations, RecordedDataset
from vla_ros.training.datasets.stored_steps import Recording, store_steps
from vla_ros.training.datasets.tabletop import TabletopDataset, trainable_pairs
from vla_ros.types import Instruction, Observation, Pose, RobotState

CONTRACT = load_contract("panda")
UPRIGHT = [0.0, 0.0, 0.0, 1.0, 0.04]  # quaternion, and the opening, m


def unchanged(images: NDArray[np.uint8], generators: Sequence[np.random.Generator]) -> torch.Tensor:
    """In place of an augmentation."""
    return image_tensor(images)


def live(dataset: Demonstrations, observation: Observation, folder: Path) -> ModelInput:
    """Return what a policy that was trained on a data set sees in an observation."""
    bundle, _ = make_bundle(dataset, CONTRACT, "real_time", {"size": "tiny"}, {})
    save_checkpoint(folder, build_model("real_time", bundle.model_config), bundle)
    policy = LocalPolicy(folder, CONTRACT, "cpu")
    assert observation.instruction is not None
    policy.reset(observation.instruction)
    assert policy._tokens is not None
    return policy._model_input([policy._frame(observation)], policy._tokens)


def observed(episode: Episode, index: int, instruction: str) -> Observation:
    """Return the observation behind a recorded step."""
    arrays = episode.arrays
    pose = Pose(arrays["position"][index], arrays["quaternion"][index])
    state = RobotState(np.zeros(7), np.zeros(7), float(arrays["opening"][index]), pose, 0.0)
    images = {name: arrays[f"image_{name}"][index] for name in ("front", "wrist")}
    return Observation(images, state, Instruction(instruction, 1), 0.0)


def assert_identical(inputs: ModelInput, row: int, there: ModelInput) -> None:
    assert torch.equal(inputs.state[row], there.state[0])
    assert {*inputs.images} == {*there.images}
    for name, image in there.images.items():
        assert torch.equal(inputs.images[name][row], image[0]), name


def instruction_of(dataset: Demonstrations, tokens: torch.Tensor) -> str:
    return " ".join(dataset.processor.tokenizer.words[int(token) - 2] for token in tokens if token)


def test_demonstrations_of_the_cell_and_the_live_policy_agree(
    dataset: PickDataset, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pick_module, "varied", unchanged)
    (episode, *_) = read_episodes(recorded)
    inputs, _ = dataset.batch(np.array([3, 8]), np.random.default_rng(0))
    for row, index in enumerate((3, 8)):
        words = instruction_of(dataset, inputs.tokens[row, 0])
        there = live(dataset, observed(episode, index, words), tmp_path)
        assert_identical(inputs, row, there)
        assert torch.equal(inputs.tokens[row, 0], there.tokens[0, 0])


def test_tabletop_demonstrations_and_the_live_policy_agree(
    tabletop_recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabletop_module, "varied", unchanged)
    words = sorted({*taught_words(), *held_out_words(), *ALL_WORDS})
    dataset = TabletopDataset([tabletop_recorded], ["front", "wrist"], words, trainable_pairs(()), tmp_path / "cache")
    (episode, *_) = read_episodes(tabletop_recorded)
    drawn = {seed: int(np.random.default_rng(seed).integers(dataset.count)) for seed in range(1000)}
    seed, index = next((seed, step) for seed, step in drawn.items() if step < len(episode))
    inputs, _ = dataset.rows([np.random.default_rng(seed)], 0)
    there = live(dataset, observed(episode, index, instruction_of(dataset, inputs.tokens[0, 0])), tmp_path / "policy")
    assert_identical(inputs, 0, there)
    assert torch.equal(inputs.tokens[0, 0], there.tokens[0, 0])


def test_recorded_data_and_the_live_policy_agree(recordings, tmp_path: Path) -> None:
    folder = recordings.write(tmp_path / "set", [recordings.walk("a", 4)], video_files=False)
    reader = open_dataset("lerobot", folder)
    parts = store_steps(
        [Recording(Line("lerobot", folder, 1.0, {}), reader)], CONTRACT, tmp_path / "cache", lambda names, what: names
    )
    dataset = RecordedDataset(parts, CONTRACT, Augmentations(images=unchanged))
    inputs, _ = dataset.steps(np.arange(4), [np.random.default_rng(0)] * 4)
    for index, step in enumerate(reader.read("a")):
        opening = float(step.proprioception[step.proprioception_names.index(GRIPPER_NAME)])
        state = RobotState(np.zeros(7), np.zeros(7), opening, step.end_effector, 0.0)
        there = live(
            dataset, Observation(step.images, state, Instruction(step.instruction, 1), 0.0), tmp_path / "policy"
        )
        assert_identical(inputs, index, there)
        assert torch.equal(inputs.tokens[index, 0], there.tokens[0, 0])


@pytest.mark.parametrize("rate", [10.0, 30.0])
def test_history_of_recorded_data_and_of_the_live_policy_agree(rate: float, recordings, tmp_path: Path) -> None:
    """The frames of three periods, at the rate of the policy and at three times that."""
    row, period = replace(recordings.convention, rate_hz=rate), CONTRACT.action.period
    steps = [
        replace(step, convention=row, timestamp=step.index / rate, action=np.zeros(7)) for step in slow_walk(recordings)
    ]
    folder = recordings.write(tmp_path / "set", [steps, [replace(s, episode="b") for s in steps]], video_files=False)
    recording = Recording(Line("lerobot", folder, 1.0, {}), open_dataset("lerobot", folder))
    parts = store_steps([recording], CONTRACT, tmp_path / "cache", lambda names, what: names, 3)
    dataset = RecordedDataset(parts, CONTRACT, Augmentations(images=unchanged))
    inputs, _ = dataset.steps(np.arange(2 * len(steps)), [np.random.default_rng(0)] * (2 * len(steps)))
    assert {*inputs.images} == {f"{name}{back}" for name in ("front", "wrist") for back in ("", "@1", "@2")}
    assert inputs.state.shape == (2 * len(steps), 30)
    bundle, _ = make_bundle(dataset, CONTRACT, "unified", {"size": "tiny"}, {})
    save_checkpoint(tmp_path / "policy", build_model("unified", bundle.model_config), bundle)
    policy = LocalPolicy(tmp_path / "policy", CONTRACT, "cpu")
    for task in range(2):
        policy.reset(Instruction(steps[0].instruction, task + 1))
        for index in range(0, len(steps), round(rate * period)):
            step, tokens = steps[index], policy._tokens
            opening = float(step.proprioception[step.proprioception_names.index(GRIPPER_NAME)])
            state = RobotState(np.zeros(7), np.zeros(7), opening, step.end_effector, 0.0)
            observation = Observation(step.images, state, None, 100.0 * task + step.timestamp)
            there = policy._model_input(policy._history.peek(observation.stamp, policy._frame(observation)), tokens)
            assert policy.predict(observation).horizon == CONTRACT.action.horizon
            assert_identical(inputs, task * len(steps) + index, there)


def slow_walk(recordings) -> list[Step]:
    """Return steps whose images differ and whose tool moves slowly enough for thirty steps a second."""
    return [
        replace(step, proprioception=np.concatenate([np.zeros(7), [0.5, 0.0, 0.2 + 0.001 * step.index], UPRIGHT]))
        for step in recordings.walk("a", 13)
    ]
