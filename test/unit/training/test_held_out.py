"""Held-out episodes: never learned from, measured in units of the actions, and the best network on them is kept."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vla_ros.cli import main as cli
from vla_ros.errors import VlaError
from vla_ros.models.checkpoint import load_checkpoint
from vla_ros.models.contract import ModelInput, ModelOutput, ModelTarget
from vla_ros.robot.contract import load_contract
from vla_ros.training.algorithms.behavioral_cloning import BcOptions, train_policy
from vla_ros.training.curve import Curve, plot_curve
from vla_ros.training.datasets.pick import PickDataset
from vla_ros.training.datasets.tabletop import TabletopDataset
from vla_ros.training.held_out import HeldOut, held_out_episodes
from vla_ros.training.loop import own_loss
from vla_ros.training.loop_options import HeldOutOptions, LoopOptions
from vla_ros.training.records import HeldOutRecord, PlayRecord, TrainingRecord, best_record

CPU = torch.device("cpu")
CONTRACT = load_contract("panda")
HALF = HeldOutOptions(fraction=0.5, rows=12, every=1)


def test_one_of_each_ten_episodes_is_held_out_and_stays_so_when_data_grow() -> None:
    held = held_out_episodes((57,), 0.1)
    assert [one // 10 for one in held] == [0, 1, 2, 3, 4]
    assert held_out_episodes((90,), 0.1)[:5] == held
    assert held_out_episodes((9,), 0.1) == () == held_out_episodes((50,), 0.0)
    first, second = held_out_episodes((10, 4, 12), 0.1)
    assert first < 10 and 14 <= second < 24  # a small data set is learned from as a whole
    with pytest.raises(VlaError, match=r"held_out\.fraction is 0\.9"):
        HeldOutOptions(fraction=0.9)


@pytest.mark.parametrize("kind", ["pick", "tabletop"])
def test_no_row_is_drawn_from_a_held_out_episode(
    kind: str, dataset: PickDataset, tabletop_recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data: PickDataset | TabletopDataset = dataset
    if kind == "tabletop":
        from vla_ros.envs.tabletop.scene import HELD_OUT_PAIRS
        from vla_ros.language.phrasing import taught_words
        from vla_ros.training.datasets.tabletop import trainable_pairs

        pairs = trainable_pairs(HELD_OUT_PAIRS)
        data = TabletopDataset([tabletop_recorded], ["front"], sorted(taught_words()), pairs, tmp_path)
    drawn: list[int] = []
    monkeypatch.setattr(type(data), "steps", lambda self, index, generators: drawn.extend(index.tolist()))
    held = held_out_episodes(data.groups, 0.5)
    for source in (data.without(held), data):
        drawn.clear()
        source.rows([np.random.default_rng(k) for k in range(300)], 0)
        seen = set(data.episode_of[drawn].tolist())
        assert seen == set(range(data.episodes)) - (set(held) if source is not data else set())


class Says(torch.nn.Module):
    """Says one chunk whatever it sees, or, told the truth, the truth."""

    def __init__(self, chunk: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        super().__init__()
        self.chunk, self.truth = chunk, None

    def predict(self, inputs: ModelInput) -> ModelOutput:
        assert self.truth is not None
        if self.chunk is None:
            return ModelOutput(self.truth.continuous, 20.0 * (self.truth.binary - 0.5))
        shape = self.truth.target_visible.shape
        return ModelOutput(*(value.expand(*shape, *value.shape) for value in self.chunk))

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[torch.Tensor, dict[str, float]]:
        self.truth = target
        return torch.tensor(1.5), {"all": 1.5}


def test_the_mean_action_is_no_better_than_itself_and_the_truth_has_no_error(dataset: PickDataset) -> None:
    watch = HeldOut(dataset, replace(HALF, rows=1000), CPU, lambda *_: None)
    mean, states = watch._mean_action()
    record = watch.measure(Says((mean, states.float() - 0.5)))
    assert record.relative == pytest.approx(1.0, abs=1e-6) and record.no_better and record.loss == 1.5
    assert record.errors == pytest.approx(record.baseline)
    assert list(record.errors) == ["arm/ee_delta position [m]", "arm/ee_delta rotation [rad]", "arm/gripper [wrong]"]
    perfect = watch.measure(Says(None))
    assert perfect.relative == pytest.approx(0.0, abs=1e-6) and not perfect.no_better
    # Positions in meters, by hand: the mean over held-out chunks of the distance to the mean of the others.
    held = held_out_episodes(dataset.groups, 0.5)
    columns = dataset._rows["actions"][..., :3]
    inside = np.isin(dataset.episode_of, held)
    expected = np.linalg.norm(columns[inside] - columns[~inside].mean(axis=(0, 1)), axis=-1).mean()
    assert record.errors["arm/ee_delta position [m]"] == pytest.approx(expected, rel=1e-4)


def _training(held_out: HeldOutOptions, steps: int = 10, **options: object) -> BcOptions:
    loop = LoopOptions(steps=steps, learning_rate=2e-3, warm_up=2, save_every=1, report_every=100)
    return BcOptions(loop, batch=4, model_options={"hidden": 16, "channels": 8}, held_out=held_out, **options)  # type: ignore[arg-type]


def test_the_best_network_is_kept_and_patience_ends_the_training(
    dataset: PickDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    errors = [0.9, 0.5, 0.7, 0.6, 0.1]

    def measure(self: HeldOut, network: torch.nn.Module) -> HeldOutRecord:
        seen.append(copy.deepcopy(network.state_dict()))
        return HeldOutRecord(1.0, {}, {}, {}, errors[len(seen) - 1])

    monkeypatch.setattr(HeldOut, "measure", measure)
    records: list[TrainingRecord] = []
    train_policy(dataset, CONTRACT, "keypoint", tmp_path, _training(replace(HALF, patience=2)), CPU, records.append)
    assert [r.held_out.relative for r in records if r.held_out] == errors[:4]
    network, bundle = load_checkpoint(tmp_path, CPU)
    assert all(torch.equal(value, seen[1][name]) for name, value in network.state_dict().items())
    assert (bundle.training["kept_update"], bundle.training["held_out"]["relative"]) == (2, 0.5)
    best = best_record(records)
    assert best is not None and best.step == 2
    # Again: its patience is exhausted already, and what was kept stays.
    again = _training(replace(HALF, patience=2), resume=True, history=records)
    train_policy(dataset, CONTRACT, "keypoint", tmp_path, again, CPU)
    assert len(seen) == 4 and load_checkpoint(tmp_path, CPU)[1].training["kept_update"] == 2


def test_an_interrupted_training_measures_what_a_straight_one_does(dataset: PickDataset, tmp_path: Path) -> None:
    straight: list[TrainingRecord] = []
    train_policy(dataset, CONTRACT, "keypoint", tmp_path / "a", _training(HALF, 3), CPU, straight.append)

    class StopError(Exception):
        pass

    before: list[TrainingRecord] = []

    def stop(record: TrainingRecord) -> None:
        before.append(record)
        if record.step == 2:
            raise StopError

    with pytest.raises(StopError):
        train_policy(dataset, CONTRACT, "keypoint", tmp_path / "b", _training(HALF, 3), CPU, stop)
    after: list[TrainingRecord] = []
    again = _training(HALF, 3, resume=True, history=before)
    train_policy(dataset, CONTRACT, "keypoint", tmp_path / "b", again, CPU, after.append)
    assert [*before[:1], *after] == straight
    kept = [load_checkpoint(tmp_path / name, CPU)[1].training["kept_update"] for name in "ab"]
    assert kept[0] == kept[1]


def test_measuring_changes_nothing_of_the_training(dataset: PickDataset, tmp_path: Path) -> None:
    states = []
    for name, every in (("often", 1), ("once", 1000)):
        options = _training(replace(HALF, every=every), 3)
        train_policy(dataset, CONTRACT, "keypoint", tmp_path / name, options, CPU, objective=own_loss)
        states.append(torch.load(tmp_path / name / "training_state.pt", weights_only=True)["averaged"])
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_play_gets_a_policy_that_can_be_loaded(dataset: PickDataset, tmp_path: Path) -> None:
    played: list[Path] = []

    def play(folder: Path) -> PlayRecord:
        load_checkpoint(folder, CPU)
        played.append(folder)
        return PlayRecord(len(played), 4)

    records: list[TrainingRecord] = []
    options = _training(HeldOutOptions(fraction=0.0, play_every=2), 3, play=play)
    train_policy(dataset, CONTRACT, "keypoint", tmp_path, options, CPU, records.append)
    assert [(r.step, r.played) for r in records] == [(2, PlayRecord(1, 4)), (3, PlayRecord(2, 4))]
    assert not any(folder.exists() for folder in played) and (tmp_path / "policy.json").exists()


def test_the_curve_keeps_and_draws_what_was_measured(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "curve.jsonl", fresh=True)
    measured = HeldOutRecord(2.0, {"a": 2.0}, {"arm/gripper [wrong]": 0.1}, {"arm/gripper [wrong]": 0.4}, 0.25)
    curve.add(TrainingRecord(1, 3.0, {"a": 3.0}))
    curve.add(TrainingRecord(2, 2.5, {"a": 2.5}, measured, PlayRecord(3, 5)))
    assert Curve(tmp_path / "curve.jsonl", fresh=False).records == curve.records
    for number, records in enumerate((curve.records, curve.records[:1])):
        plot_curve(records, tmp_path / f"{number}.png")
    import matplotlib.pyplot as plt

    heights = [plt.imread(tmp_path / f"{number}.png").shape[0] for number in range(2)]
    assert heights[0] > heights[1]


def test_a_run_that_learned_nothing_says_so(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {
        "model": "keypoint",
        "out": str(tmp_path / "out"),
        "batch": 2,
        "data": {"folders": [str(recorded)]},
        "model_options": {"hidden": 16, "channels": 8},
        "held_out": {"fraction": 0.5, "rows": 12},
        "loop": {"steps": 1, "learning_rate": 1e-9, "warm_up": 0},
    }
    (tmp_path / "nothing.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["train", "--config", str(tmp_path / "nothing.yaml"), "--device", "cpu"]) == 0
    assert "NO BETTER than the mean action on held-out episodes" in capsys.readouterr().out.splitlines()[-1]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["no_better_than_mean_action"] is True and report["held_out"]["relative"] > 0.9
    assert load_checkpoint(tmp_path / "out", CPU)[1].training["held_out"]["relative"] == report["held_out"]["relative"]
