"""Batches say the same picture with different words, and different actions for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.actions.space import ActionSpace
from vla_ros.data.episodes.demonstrations import DemonstrationWriter
from vla_ros.envs.tabletop.tasks import PICK_TEMPLATES
from vla_ros.errors import VlaError
from vla_ros.robot.contract import load_contract
from vla_ros.training.datasets.pick import PickDataset
from vla_ros.training.datasets.source import SeededBatches


def test_a_batch_has_a_sentence_for_every_object_and_one_for_an_absent_one(dataset: PickDataset) -> None:
    inputs, target = dataset.batch(np.array([0, 5]), np.random.default_rng(0))
    assert inputs.tokens.shape == (2, 4, 10) and inputs.images["front"].shape == (2, 3, 96, 128)
    assert target.target_visible.tolist() == [[1, 1, 1, 0]] * 2
    assert not bool((target.continuous[:, 0] == target.continuous[:, 1]).all())
    assert float(inputs.images["wrist"].min()) >= 0.0 and float(inputs.images["wrist"].max()) <= 1.0


def test_a_batch_is_decided_by_seed_and_number_and_its_shares_make_the_whole(dataset: PickDataset) -> None:
    def tensors(seed: int, update: int, part: int, parts: int) -> list[torch.Tensor]:
        inputs, target = SeededBatches(dataset, 6, seed).batch(update, part, parts)
        return [inputs.images["wrist"], inputs.state, inputs.tokens, target.continuous, target.target_visible]

    whole = tensors(5, 7, 0, 1)
    for one, other in zip(whole, tensors(5, 7, 0, 1), strict=True):
        assert torch.equal(one, other)
    shares = [tensors(5, 7, part, 3) for part in range(3)]
    for one, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(one, torch.cat(parts))
    for seed, update in ((5, 8), (6, 7)):
        assert not torch.equal(whole[0], tensors(seed, update, 0, 1)[0])


def test_actions_come_back_from_their_normalizer(dataset: PickDataset) -> None:
    index = np.array([3])
    _, target = dataset.batch(index, np.random.default_rng(0))
    there = dataset.processor.statistics.action.columns(slice(0, 3)).unnormalize(target.continuous[0, 1, :, :3].numpy())
    np.testing.assert_allclose(there, dataset._rows["actions"][3, 1, :, :3], atol=1e-5)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(VlaError, match="is no data set that is known"):
        PickDataset([tmp_path], ["front"], PICK_TEMPLATES, ["red cube"])
    DemonstrationWriter(tmp_path, load_contract("panda").action, {})
    with pytest.raises(VlaError, match="no episodes"):
        PickDataset([tmp_path], ["front"], PICK_TEMPLATES, ["red cube"])


def test_folders_of_different_conventions_do_not_mix(tmp_path: Path, recorded: Path) -> None:
    meta = load_contract("panda").action.to_dict()
    meta["groups"][0]["reference"] = "delta"
    DemonstrationWriter(tmp_path, ActionSpace.from_dict(meta), {})
    with pytest.raises(VlaError, match="reference: 'relative' here, 'delta' there"):
        PickDataset([recorded, tmp_path], ["front"], PICK_TEMPLATES, ["red cube"])
