"""One command from nothing: collect, clone, and visit or compare; and again, it goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.cli.recorded_data import open_line
from vla_ros.data.episodes.demonstrations import read_episodes
from vla_ros.errors import VlaError
from vla_ros.models.checkpoint import load_checkpoint
from vla_ros.training import pipeline
from vla_ros.training.configuration import (
    ActionHeadSection,
    DaggerSection,
    DataSection,
    PreferenceSection,
    TrainingConfig,
)
from vla_ros.training.curve import Curve
from vla_ros.training.loop import TrainingRecord
from vla_ros.training.loop_options import LoopOptions
from vla_ros.training.pipeline import Training

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "pick"


def _config(demonstrations: Path, out: Path, method: str = "bc") -> TrainingConfig:
    return TrainingConfig(
        LoopOptions(steps=4, warm_up=1, save_every=2, report_every=1),
        out=out,
        batch=4,
        method=method,
        data=DataSection((demonstrations,), episodes=2, seed=10),
        dagger=DaggerSection(1, 2, 50, 0.5, 2),
        preferences=PreferenceSection(1, 2, 60, clip=6, pairs=20, reward_steps=5, policy_steps=2),
    )


def _run(config: TrainingConfig) -> dict[str, object]:
    return Training(config, CPU, resume=True, processes=2, command="vla-ros train", open_line=open_line).run()


def _weights(folder: Path) -> torch.Tensor:
    network, _ = load_checkpoint(folder, CPU)
    return torch.cat([p.flatten() for p in network.parameters()])


def test_one_command_collects_and_trains_and_goes_on(demonstrations: Path, tmp_path: Path) -> None:
    figures = _run(_config(demonstrations, tmp_path / "whole"))
    assert figures["episodes"] == 2 and len(list(read_episodes(demonstrations))) == 2
    whole, lines = _weights(tmp_path / "whole"), Curve(tmp_path / "whole" / "curve.jsonl", fresh=False).records
    assert [record.step for record in lines] == [1, 2, 3, 4] and (tmp_path / "whole" / "curve.png").exists()

    config = _config(demonstrations, tmp_path / "halves")

    class InterruptionError(Exception):
        pass

    def stop(self: Curve, record: TrainingRecord) -> None:
        add(self, record)
        if record.step == 3:
            raise InterruptionError

    add, Curve.add = Curve.add, stop  # type: ignore[method-assign]
    try:
        with pytest.raises(InterruptionError):
            _run(config)
    finally:
        Curve.add = add  # type: ignore[method-assign]
    _run(config)
    assert torch.equal(_weights(tmp_path / "halves"), whole)
    again = Curve(tmp_path / "halves" / "curve.jsonl", fresh=False).records
    assert [(r.step, r.loss) for r in again] == [(r.step, r.loss) for r in lines]


def test_dagger_visits_with_the_learner_and_learns_from_all(demonstrations: Path, tmp_path: Path) -> None:
    figures = _run(_config(demonstrations, tmp_path, "dagger"))
    visits = list(read_episodes(tmp_path / "visits_1"))
    assert [episode.seed for episode in visits] == [50, 51]  # failures are what it learns from
    assert figures["episodes"] == 4 and (tmp_path / "round_0").exists()
    assert torch.equal(_weights(tmp_path), _weights(tmp_path / "round_1"))
    assert not torch.equal(_weights(tmp_path), _weights(tmp_path / "round_0"))


def test_what_decides_learns_on_alone_also_from_visits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the whole network, and after each visit; the eyes stay what the whole training made them."""
    monkeypatch.setattr(pipeline, "common_words", list)  # thousands take long to describe
    config = TrainingConfig(
        LoopOptions(steps=3, warm_up=1, report_every=1),
        world="tabletop",
        model="compositional",
        out=tmp_path / "out",
        batch=4,
        method="dagger",
        model_options={"channels": 8, "hidden": 16},
        data=DataSection((tmp_path / "data",), episodes=1, seed=10, cache=tmp_path / "cache"),
        action_head=ActionHeadSection(5, 4, 1),
        dagger=DaggerSection(1, 1, 50, 0.5, 0),
    )
    figures = _run(config)
    assert figures["episodes"] == 2
    whole, first, last = (
        dict(load_checkpoint(tmp_path / "out" / name, CPU)[0].named_parameters())
        for name in ("round_0/whole", "round_0", "round_1")
    )
    assert not (tmp_path / "out" / "round_1" / "whole").exists()
    for name, weights in whole.items():
        stays = name.split(".")[0] in ("eyes", "reader")
        assert torch.equal(weights, first[name]) == torch.equal(first[name], last[name]) == stays, name
    assert load_checkpoint(tmp_path / "out", CPU)[1].training["deciding_updates"] == 5
    before = _weights(tmp_path / "out")
    _run(config)  # there is nothing left to do
    assert torch.equal(_weights(tmp_path / "out"), before)


def test_preferences_improve_a_copy_and_keep_what_the_clips_do_not_say(demonstrations: Path, tmp_path: Path) -> None:
    config = _config(demonstrations, tmp_path, "preferences")
    figures = _run(config)
    clips = list(read_episodes(tmp_path / "clips_1"))
    assert {"driven", "progress"} <= set(clips[0].arrays) and 0.0 <= float(figures["reward_agrees"]) <= 1.0  # type: ignore[arg-type]
    moved = (_weights(tmp_path) - _weights(tmp_path / "cloned")).detach().abs().max()
    assert 0.0 < float(moved) < 10 * 2 * config.preferences.learning_rate
    assert np.isfinite(float(figures["loss"]))  # type: ignore[arg-type]


def test_a_broken_curve_is_named(tmp_path: Path, demonstrations: Path) -> None:
    (tmp_path / "curve.jsonl").write_text("nonsense")
    with pytest.raises(VlaError, match="is no curve"):
        _run(replace(_config(demonstrations, tmp_path)))
