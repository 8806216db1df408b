"""The curve of a training is whole on the disk whenever the training is killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vla_ros.errors import VlaError
from vla_ros.training.curve import Curve
from vla_ros.training.loop import TrainingRecord


class KilledError(Exception):
    """In place of kill -9."""


def test_a_curve_goes_on_and_replaces_what_was_said_after_the_last_state(tmp_path: Path) -> None:
    path = tmp_path / "out" / "curve.jsonl"
    curve = Curve(path, fresh=True)
    for step in (1, 2, 3):
        curve.add(TrainingRecord(step, 1.0 / step, {"gripper": 0.5}))
    again = Curve(path, fresh=False)
    assert again.records == curve.records
    again.add(TrainingRecord(2, 0.25, {"gripper": 0.125}))
    assert [(r.step, r.loss) for r in Curve(path, fresh=False).records] == [(1, 1.0), (2, 0.25)]
    assert Curve(path, fresh=True).records == [] and not path.exists()


def test_a_curve_is_readable_after_a_kill_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curve = Curve(tmp_path / "curve.jsonl", fresh=True)
    curve.add(TrainingRecord(1, 1.0, {}))

    def killed(*paths: Path) -> None:
        raise KilledError

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KilledError):
        curve.add(TrainingRecord(2, 0.5, {}))
    assert [r.step for r in Curve(tmp_path / "curve.jsonl", fresh=False).records] == [1]


def test_what_is_no_curve_is_named(tmp_path: Path) -> None:
    (tmp_path / "curve.jsonl").write_text("nonsense")
    with pytest.raises(VlaError, match=r"curve\.jsonl is no curve"):
        Curve(tmp_path / "curve.jsonl", fresh=False)
