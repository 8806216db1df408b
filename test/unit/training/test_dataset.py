"""Batches say the same picture with different words, and different actions for each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vla_ros.errors import VlaError
from vla_ros.sim.tasks import PICK_TEMPLATES
from vla_ros.training.dataset import PickDataset


def test_a_batch_has_a_sentence_for_every_object_and_one_for_an_absent_one(dataset: PickDataset) -> None:
    given, wanted = dataset.batch(np.array([0, 5]), np.random.default_rng(0))
    assert given.tokens.shape == (2, 4, 10) and given.images["front"].shape == (2, 3, 96, 128)
    assert wanted.present.tolist() == [[1, 1, 1, 0]] * 2
    assert not bool((wanted.positions[:, 0] == wanted.positions[:, 1]).all())
    assert float(given.images["wrist"].min()) >= 0.0 and float(given.images["wrist"].max()) <= 1.0


def test_one_seed_gives_one_sequence_of_batches(dataset: PickDataset) -> None:
    import torch

    def first() -> tuple[object, object]:
        torch.manual_seed(0)
        given, wanted = next(dataset.batches(4, np.random.default_rng(5)))
        return given.tokens, wanted.positions

    for one, other in zip(first(), first(), strict=True):
        assert bool((one == other).all())


def test_actions_come_back_from_their_normaliser(dataset: PickDataset) -> None:
    index = np.array([3])
    _, wanted = dataset.batch(index, np.random.default_rng(0))
    there = dataset.statistics.position.unnormalise(wanted.positions[0, 1].numpy())
    np.testing.assert_allclose(there, dataset._rows["actions"][3, 1, :, :3], atol=1e-5)


def test_an_empty_folder_is_named(tmp_path: Path, recorded: Path) -> None:
    with pytest.raises(VlaError, match=r"meta\.json"):
        PickDataset([tmp_path], ["front"], PICK_TEMPLATES, ["red cube"])
    (tmp_path / "meta.json").write_text((recorded / "meta.json").read_text())
    with pytest.raises(VlaError, match="no episodes"):
        PickDataset([tmp_path], ["front"], PICK_TEMPLATES, ["red cube"])


def test_folders_of_different_conventions_do_not_mix(tmp_path: Path, recorded: Path) -> None:
    meta = json.loads((recorded / "meta.json").read_text())
    meta["specification"]["reference"] = "delta"
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(VlaError, match="reference: 'relative' here, 'delta' there"):
        PickDataset([recorded, tmp_path], ["front"], PICK_TEMPLATES, ["red cube"])
