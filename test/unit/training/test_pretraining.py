"""A trunk comes out of views of scenes by one command, is measured on other scenes, and heads learn from its maps."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from vla_ros.cli import main as cli
from vla_ros.data.catalogue import Line, open_dataset
from vla_ros.data.episodes.demonstrations import DemonstrationWriter
from vla_ros.envs.collector import CollectionOptions
from vla_ros.envs.registry import make_collector
from vla_ros.errors import VlaError
from vla_ros.models.build import build_model
from vla_ros.models.checkpoint import load_checkpoint
from vla_ros.models.trunk import Trunk, TrunkConfig, TrunkDescription, describe_trunk, save_trunk
from vla_ros.policies.build import load_policy
from vla_ros.robot.contract import load_contract
from vla_ros.training.algorithms.behavioral_cloning import BcOptions, make_bundle, train_policy
from vla_ros.training.datasets.pick import PickDataset
from vla_ros.training.datasets.recorded import RecordedDataset
from vla_ros.training.datasets.stored_steps import Recording, store_steps
from vla_ros.training.loop_options import HeldOutOptions, LoopOptions
from vla_ros.training.pretraining import NAMES, TrunkHeldOut, over_scenes, probe_trunk, trunk_dataset, trunk_figures
from vla_ros.training.records import TrainingRecord
from vla_ros.training.trunk_features import WHOLE, with_trunk_features

CPU = torch.device("cpu")
CONTRACT = load_contract("panda")
CAMERAS = ["front", "wrist"]
SMALL = {"channels": 8, "width": 16}


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    writer = DemonstrationWriter(folder, CONTRACT.action, {})
    collector = make_collector("tabletop", CONTRACT, CollectionOptions(views=4, varied_from=0))
    for seed in range(4):
        writer.write(collector.collect(seed))
    return folder


def test_views_show_one_scene_from_many_places_in_many_lights(views: Path, tmp_path: Path) -> None:
    dataset = trunk_dataset([views], CAMERAS, tmp_path)
    assert (dataset.count, dataset.episodes) == (16, 4)
    rows = dataset._rows
    for scene in range(4):
        mine = np.flatnonzero(dataset.episode_of == scene)
        places = rows["state"][mine][:, :3]
        assert len({tuple(place) for place in np.round(places, 3)}) == 4  # the hand is elsewhere each time
        np.testing.assert_allclose(rows["target"][mine], rows["target"][mine[:1]].repeat(4, axis=0), atol=1e-6)
        assert len({dataset.image_stores["front"][mine[k : k + 1]].tobytes() for k in range(4)}) == 4
    heights = rows["state"][:, 2]
    assert heights.min() < 0.12 and heights.max() < 0.6
    # The label says where the thing is in the picture that was taken: its color is there.
    seen = np.isfinite(rows["pixel_wrist"]).all(axis=-1)
    assert 0.2 < seen.mean() < 1.0 and np.isfinite(rows["pixel_front"]).mean() > 0.5


def test_words_that_a_trunk_does_not_know_are_unknown_words(views: Path, tmp_path: Path) -> None:
    dataset = trunk_dataset([views], CAMERAS, tmp_path)
    inputs, _ = dataset.rows([np.random.default_rng(k) for k in range(40)], 0)
    assert int(inputs.tokens.max()) < dataset.processor.tokenizer.size
    share = float((inputs.tokens == 1).float().sum() / (inputs.tokens > 0).float().sum())
    assert 0.02 < share < 0.3


@pytest.fixture(scope="module")
def trained(views: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object], str]:
    folder = tmp_path_factory.mktemp("trunk")
    config = {
        "world": "tabletop",
        "method": "pretraining",
        "out": str(folder / "out"),
        "batch": 4,
        "model_options": SMALL,
        "data": {"folders": [str(views)], "cache": str(folder / "cache")},
        "loop": {"steps": 4, "warm_up": 1, "save_every": 2, "report_every": 1},
        "held_out": {"fraction": 0.5, "rows": 8, "every": 2},
    }
    (folder / "trunk.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["train", "--config", str(folder / "trunk.yaml"), "--device", "cpu"]) == 0
    return folder / "out", json.loads((folder / "out" / "report.json").read_text()), str(folder / "trunk.yaml")


def test_one_command_trains_a_trunk_and_says_how_good_it_is(
    trained: tuple[Path, dict[str, object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, report, config = trained
    description = describe_trunk(out)
    assert description.config == TrunkConfig(description.config.vocabulary, words=16, **SMALL)
    assert description.training["held_out"] is not None
    figures = report["trunk"]
    assert isinstance(figures, dict) and len(figures) == 8
    for value, low, high in figures.values():
        assert low <= value <= high
    assert cli.main(["train", "--config", config, "--device", "cpu"]) == 0  # there is nothing left to do
    assert f"front: the right one of {NAMES} names" in capsys.readouterr().out
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curve if "held_out" in line] == [2, 4]


def test_a_trunk_is_probed_with_the_truth_it_is_asked_for(views: Path, tmp_path: Path) -> None:
    """One that points at the true place, whatever it sees, is 0 px off."""
    dataset = trunk_dataset([views], CAMERAS, tmp_path)
    watch = TrunkHeldOut(dataset, HeldOutOptions(fraction=0.5), CPU, lambda *_: None)
    trunk = Trunk(TrunkConfig(dataset.processor.tokenizer.size, **SMALL)).eval()
    index = np.arange(6)
    probe = probe_trunk(trunk, watch, index)["front"]
    _, target, _ = next(watch.batches(index))
    there = torch.isfinite(target.pixels["front"]).all(dim=-1) & (target.target_visible > 0.5)
    np.testing.assert_allclose(probe.place, (target.pixels["front"][there] * torch.tensor([128.0, 96.0])).numpy())
    assert len(probe.distance) == int(there.sum()) == len(probe.rows) and len(probe.seen) == len(probe.seen_rows)
    with torch.no_grad():
        inputs, _, _ = next(watch.batches(index))
        found = trunk.vision.ground(trunk.vision(inputs.images["front"]), trunk.questions(inputs.tokens))
    output = found.places.unflatten(0, there.shape)[..., 0, :][there] * torch.tensor([128.0, 96.0])
    np.testing.assert_allclose(probe.distance, np.linalg.norm(output.numpy() - probe.place, axis=1), rtol=1e-4)


def test_an_interval_is_over_scenes() -> None:
    values, scenes = np.repeat([0.0, 1.0], 50), np.repeat([0, 1], 50)
    value, low, high = over_scenes(values, scenes, np.mean)
    assert (value, low, high) == (0.5, 0.0, 1.0)  # two scenes, however many views


def test_no_figures_without_a_held_out_scene(
    trained: tuple[Path, dict[str, object], str], views: Path, tmp_path: Path
) -> None:
    with pytest.raises(VlaError, match="no scene of 4 is held out"):
        trunk_figures(trained[0], trunk_dataset([views], CAMERAS, tmp_path), 0.1, CPU)


def _trunk(folder: Path, dataset: PickDataset | RecordedDataset) -> Path:
    torch.manual_seed(0)
    config = TrunkConfig(len(dataset.taught) + 2, words=12, **SMALL)
    save_trunk(folder, Trunk(config), TrunkDescription(config, dataset.taught))
    return folder


def test_what_a_frozen_trunk_says_is_computed_once(
    dataset: PickDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = str(_trunk(tmp_path / "trunk", dataset))
    options = BcOptions(
        LoopOptions(steps=3, warm_up=1),
        batch=2,
        cache=tmp_path / "cache",
        variants=2,
        model_options={"size": "tiny", "vision": trunk, "text": trunk, "freeze": True},
        held_out=HeldOutOptions(fraction=0.5, rows=6),
    )
    records: list[TrainingRecord] = []
    train_policy(dataset, CONTRACT, "flow", tmp_path / "out", options, CPU, records.append)
    network, _ = load_checkpoint(tmp_path / "out", CPU)
    steps = np.array([3, 40])
    monkeypatch.setattr(PickDataset, "images", None)  # no picture is looked at again
    features = with_trunk_features(dataset, network, tmp_path / "cache", 2, CPU)
    inputs, _ = features.steps(steps, [np.random.default_rng(k) for k in (5, 6)])
    monkeypatch.undo()
    plain, _ = dataset.steps(steps, [np.random.default_rng(k) for k in (5, 6)])
    assert torch.equal(inputs.tokens, plain.tokens)  # sentences are those that were drawn without
    for row, step in enumerate(steps):
        variants = [dataset.images(np.array([step]), [np.random.default_rng([v, int(step)])])["wrist"] for v in (0, 1)]
        with torch.no_grad():
            maps = [network.backbones()["vision"].owner.map(image)[0] for image in variants]
        nearest = min(float((inputs.images["wrist"][row] - one).abs().max()) for one in maps)
        assert nearest < 1e-2 * float(maps[0].abs().max())
    folder = next((tmp_path / "cache").glob("features_*"))
    assert (folder / WHOLE).exists()
    assert [r.held_out is not None for r in records][-1]


def test_maps_stand_for_every_frame_of_a_history(recordings: SimpleNamespace, tmp_path: Path) -> None:
    folder = recordings.write(tmp_path / "set", [recordings.walk("a", 6)], video_files=False)
    recording = Recording(Line("lerobot", folder, 1.0, {}), open_dataset("lerobot", folder))
    parts = store_steps([recording], CONTRACT, tmp_path / "steps", lambda names, what: names, 2)
    data = RecordedDataset(parts, CONTRACT)
    trunk = str(_trunk(tmp_path / "trunk", data))
    options = {"size": "tiny", "vision": trunk, "text": trunk, "freeze": True}
    bundle, _ = make_bundle(data, CONTRACT, "flow", options, {})
    network = build_model("flow", bundle.model_config).eval()
    features = with_trunk_features(data, network, tmp_path / "cache", 1, CPU)
    inputs, target = features.steps(np.array([0, 3]), [np.random.default_rng(k) for k in (5, 6)])
    assert {*inputs.images} == {"front", "front@1", "wrist", "wrist@1"}
    for name, frames in (("wrist", (0, 3)), ("wrist@1", (0, 2))):
        for row, step in enumerate(frames):
            image = data.images(np.array([step]), [np.random.default_rng([0, step])])["wrist"]
            with torch.no_grad():
                one = network.backbones()["vision"].owner.map(image)[0]
            assert float((inputs.images[name][row] - one).abs().max()) < 1e-2 * float(one.abs().max())
    assert bool(torch.isfinite(network.compute_loss(inputs, target)[0]))


def test_a_network_whose_trunk_learns_sees_pictures(dataset: PickDataset, tmp_path: Path) -> None:
    trunk = str(_trunk(tmp_path / "trunk", dataset))
    options = BcOptions(
        LoopOptions(steps=1, warm_up=0),
        batch=2,
        cache=tmp_path / "cache",
        model_options={"size": "tiny", "vision": trunk, "text": trunk},
    )
    train_policy(dataset, CONTRACT, "diffusion", tmp_path / "out", options, CPU)
    assert not (tmp_path / "cache").exists()


def test_a_policy_with_a_trunk_needs_its_folder_no_more_and_swaps_it(
    recorded: Path, dataset: PickDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the cache
    trunk = _trunk(tmp_path / "trunk", dataset)
    words = [
        "train",
        "--model",
        "flow",
        "--size",
        "tiny",
        "--data",
        str(recorded),
        "--steps",
        "1",
        "--batch",
        "1",
        "--device",
        "cpu",
    ]
    named = ["--set", f"vision={trunk}", f"text={trunk}"]
    assert cli.main([*words, *named, "freeze=true", "--out", str(tmp_path / "first")]) == 0
    swapped = [*words, *named, "--start-from", str(tmp_path / "first"), "--out", str(tmp_path / "second")]
    assert cli.main(swapped) == 0
    bundle = load_checkpoint(tmp_path / "second", CPU)[1]
    assert bundle.training["swapped"] == {"vision": str(trunk), "text": str(trunk), "anew": []}
    trunk.rename(tmp_path / "gone")
    load_policy(str(tmp_path / "second"), CONTRACT, "cpu")
