"""Glances at recorded steps are what the eyes say, made once; deciding learns from them and leaves the eyes alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.envs.tabletop.scene import HELD_OUT_PAIRS
from vla_ros.errors import VlaError
from vla_ros.language.phrasing import taught_words
from vla_ros.models.build import build_model
from vla_ros.models.checkpoint import PolicyBundle, load_checkpoint, save_checkpoint
from vla_ros.models.networks.compositional import CompositionalModel
from vla_ros.robot.contract import load_contract
from vla_ros.training.algorithms.action_head import ActionHeadOptions, train_action_head
from vla_ros.training.algorithms.behavioral_cloning import make_bundle
from vla_ros.training.algorithms.target_features import ASKED, TargetFeatureDataset
from vla_ros.training.datasets.concepts import COLOUR_NAMES, KIND_NAMES
from vla_ros.training.datasets.image_store import varied
from vla_ros.training.datasets.source import SeededBatches
from vla_ros.training.datasets.tabletop import TabletopDataset, trainable_pairs
from vla_ros.training.loop_options import LoopOptions

CPU = torch.device("cpu")
SMALL = {"channels": 16, "hidden": 48}
Made = tuple[TabletopDataset, CompositionalModel, PolicyBundle]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    def build(*folders: Path, seed: int = 0) -> Made:
        pairs = trainable_pairs(HELD_OUT_PAIRS)
        dataset = TabletopDataset(folders, ["front", "wrist"], sorted(taught_words()), pairs, tmp_path / "cache")
        bundle, _ = make_bundle(dataset, load_contract("panda"), "compositional", SMALL, {"updates": 0})
        torch.manual_seed(seed)
        network = build_model("compositional", bundle.model_config)
        assert isinstance(network, CompositionalModel)
        return dataset, network, bundle

    return build


def test_a_glance_is_what_the_eyes_say_of_the_picture(make: Callable[..., Made], tabletop_recorded: Path) -> None:
    dataset, network, _ = make(tabletop_recorded)
    features = TargetFeatureDataset(dataset, network, 2, CPU)
    generators = [np.random.default_rng(k) for k in range(5)]
    batch = features.rows(generators, 0)
    again = [np.random.default_rng(k) for k in range(5)]
    steps = [int(rng.integers(dataset.count)) for rng in again]
    variants = [int(rng.integers(2)) for rng in again]
    looking = [np.random.default_rng([v, s]) for v, s in zip(variants, steps, strict=True)]
    vain = [dataset.absent(s, rng) for s, rng in zip(steps, looking, strict=True)]
    images = {c: varied(dataset.image_stores[c][np.array(steps)], looking) for c in ("front", "wrist")}
    with torch.inference_mode():
        seen = network.eval().look(images, batch.target.concepts)
    for camera in ("front", "wrist"):
        for part in ("thing", "goal", "free"):
            there, output = getattr(batch.features[camera], part), getattr(seen[camera], part)
            assert there.shape == output.shape
            torch.testing.assert_close(there, output, atol=2e-3, rtol=2e-3)  # kept with 11 bits
    assert batch.target.target_visible.tolist() == [[1.0] * (ASKED - 1) + [0.0]] * 5
    named = [command.thing for command in vain]

    said_to_be = zip(batch.target.concepts["colour"][:, -1], batch.target.concepts["kind"][:, -1], strict=True)
    assert [(COLOUR_NAMES[c], KIND_NAMES[k]) for c, k in said_to_be] == named


def test_columns_belong_to_their_commands(make: Callable[..., Made], tabletop_recorded: Path) -> None:
    dataset, network, _ = make(tabletop_recorded)
    batch = TargetFeatureDataset(dataset, network, 1, CPU).rows([np.random.default_rng(k) for k in range(6)], 0)
    for row in range(6):
        step = int(np.random.default_rng(row).integers(dataset.count))
        commands = dataset.commands(step)
        for column in range(ASKED - 1):
            which = column % len(commands)
            chunk = dataset.processor.statistics.action.columns(slice(0, 3)).unnormalize(
                batch.target.continuous[row, column, :, :3].numpy()
            )
            np.testing.assert_allclose(chunk, dataset._rows["actions"][step, which, :, :3], atol=1e-5)


def test_deciding_learns_and_the_eyes_stay(make: Callable[..., Made], tabletop_recorded: Path, tmp_path: Path) -> None:
    dataset, network, bundle = make(tabletop_recorded)
    save_checkpoint(tmp_path / "whole", network, bundle)
    losses = []
    options = ActionHeadOptions(
        LoopOptions(steps=40, learning_rate=1e-2, warm_up=5, report_every=1, ema_decay=0.5), 8, 2, notes={"updates": 40}
    )
    train_action_head(dataset, tmp_path / "whole", tmp_path / "out", options, CPU, lambda r: losses.append(r.loss))
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    after, learned = load_checkpoint(tmp_path / "out", CPU)
    assert learned.training["updates"] == 40
    before = dict(network.named_parameters())
    for name, weights in after.named_parameters():
        stays = name.split(".")[0] in ("eyes", "reader")
        assert torch.equal(weights, before[name]) == stays, name
    with torch.inference_mode():
        batch = SeededBatches(TargetFeatureDataset(dataset, network, 2, CPU), 16, 5).batch(0, 0, 1)
        first, last = (m.action_head_loss(batch.features, batch.state, batch.target)[0] for m in (network, after))
    assert last < 0.85 * first


def test_what_decides_goes_on_with_no_other_eyes(
    make: Callable[..., Made], tabletop_recorded: Path, tmp_path: Path
) -> None:
    options = ActionHeadOptions(LoopOptions(steps=1, warm_up=0), 4, 1, resume=True)
    for seed in (0, 1):
        _, network, bundle = make(tabletop_recorded, seed=seed)
        save_checkpoint(tmp_path / f"whole_{seed}", network, bundle)
    train_action_head(make(tabletop_recorded)[0], tmp_path / "whole_0", tmp_path / "out", options, CPU)
    train_action_head(make(tabletop_recorded)[0], tmp_path / "whole_0", tmp_path / "out", options, CPU)
    with pytest.raises(VlaError, match=r"policy: '.*' then, '.*' now"):
        train_action_head(make(tabletop_recorded)[0], tmp_path / "whole_1", tmp_path / "out", options, CPU)


def test_glances_are_made_once_for_each_folder_and_each_pair_of_eyes(
    make: Callable[..., Made], tabletop_recorded: Path, tabletop_later: Path
) -> None:
    dataset, network, _ = make(tabletop_recorded)
    TargetFeatureDataset(dataset, network, 1, CPU)
    (made,) = dataset.places[0].glob("glances_*")
    stamp = (made / "front.glances").stat().st_mtime_ns
    both, _, _ = make(tabletop_recorded, tabletop_later)
    grown = TargetFeatureDataset(both, network, 1, CPU)
    assert (made / "front.glances").stat().st_mtime_ns == stamp and grown.count == both.count > dataset.count
    _, other, _ = make(tabletop_recorded, seed=1)
    TargetFeatureDataset(dataset, other, 1, CPU)
    assert len(list(dataset.places[0].glob("glances_*"))) == 2
    (made / "front.glances").write_bytes(b"short")
    with pytest.raises(VlaError, match="5 bytes"):
        TargetFeatureDataset(dataset, network, 1, CPU)


def test_an_interrupted_look_is_made_again(make: Callable[..., Made], tabletop_recorded: Path) -> None:
    dataset, network, _ = make(tabletop_recorded)
    whole = TargetFeatureDataset(dataset, network, 1, CPU).rows([np.random.default_rng(0)], 0)
    (made,) = dataset.places[0].glob("glances_*")
    (made / "complete").unlink()
    (made / "front.glances").write_bytes(b"half")
    again = TargetFeatureDataset(dataset, network, 1, CPU).rows([np.random.default_rng(0)], 0)
    assert torch.equal(whole.features["front"].thing, again.features["front"].thing)


def test_what_cannot_be_is_named(make: Callable[..., Made], tabletop_recorded: Path, tmp_path: Path) -> None:
    dataset, network, _ = make(tabletop_recorded)
    with pytest.raises(VlaError, match="0 variants"):
        TargetFeatureDataset(dataset, network, 0, CPU)
    keypoint, _ = make_bundle(dataset, load_contract("panda"), "keypoint", {}, {})
    save_checkpoint(tmp_path / "other", build_model("keypoint", keypoint.model_config), keypoint)
    options = ActionHeadOptions(LoopOptions(steps=1), 4, 1)
    with pytest.raises(VlaError, match="holds a 'keypoint'"):
        train_action_head(dataset, tmp_path / "other", tmp_path / "out", options, CPU)
    batch = TargetFeatureDataset(dataset, network, 1, CPU).rows([np.random.default_rng(0)], 0)
    with pytest.raises(ValueError, match="is missing"):
        network.action_head_loss(batch.features, batch.state, replace(batch.target, goal=None))
