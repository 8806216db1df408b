"""A pass is good for what it was made with, for a while, and nothing else."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from vla_ros.robot.contract import parse_contract
from vla_ros.safety.selftest_record import SelftestRecord, fingerprint, keep, recall


@pytest.fixture
def mark(contract, parameters):
    return fingerprint(contract, parameters)


def record(mark, tried=5, missed=(), age=0.0):
    return SelftestRecord(mark, tried, missed, time.time() - age)


def test_the_same_makes_the_same_mark(contract, parameters, mark):
    assert fingerprint(parse_contract(contract.text), parameters) == mark


def test_any_other_number_makes_another_mark(contract, parameters, mark):
    joints = replace(contract.joints, velocity=contract.joints.velocity * 1.0000001)
    others = [
        fingerprint(replace(contract, joints=joints), parameters),
        fingerprint(contract, replace(parameters, obstacles=())),
        fingerprint(contract, replace(parameters, timing=replace(parameters.timing, chunk_timeout=0.81))),
    ]
    assert len({mark, *others}) == 4


def test_another_mesh_makes_another_mark(meshed, parameters):
    flag = meshed.urdf.parent / "flag.stl"
    text, mark = flag.read_text(encoding="utf-8"), fingerprint(meshed, parameters)
    assert fingerprint(meshed, parameters) == mark
    flag.write_text(text.replace("-3.0", "-2.9"), encoding="utf-8")
    try:
        assert fingerprint(meshed, parameters) != mark
    finally:
        flag.write_text(text, encoding="utf-8")


def test_other_code_makes_another_mark(contract, parameters, mark, monkeypatch):
    monkeypatch.setattr("vla_ros.safety.selftest_record.FILES", ("types.py",))
    assert fingerprint(contract, parameters) != mark


def test_a_pass_is_kept_and_recalled(tmp_path, mark):
    kept = record(mark)
    keep(tmp_path, kept)
    assert recall(tmp_path, mark, 60.0) == kept


@pytest.mark.parametrize("kept", [{"tried": 0}, {"missed": ("one",)}])
def test_a_failure_is_not_kept(tmp_path, mark, kept):
    keep(tmp_path, record(mark, **kept))
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_old_from_the_future_or_for_something_else_is_not_recalled(tmp_path, mark):
    keep(tmp_path, record(mark, age=61.0))
    assert recall(tmp_path, mark, 60.0) is None
    assert recall(tmp_path, mark, 120.0) is not None
    keep(tmp_path, record(mark, age=-1000.0))
    assert recall(tmp_path, mark, 60.0) is None
    assert recall(tmp_path, "another", 60.0) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"tried": "many"}', "null"])
def test_a_file_that_is_no_record_is_none(tmp_path, mark, text):
    (tmp_path / f"{mark}.json").write_text(text, encoding="utf-8")
    assert recall(tmp_path, mark, 1e9) is None


def test_a_record_under_a_name_that_is_not_its_own_is_none(tmp_path, mark):
    values = {"fingerprint": "another", "tried": 5, "missed": [], "finished": time.time()}
    (tmp_path / f"{mark}.json").write_text(json.dumps(values), encoding="utf-8")
    assert recall(tmp_path, mark, 60.0) is None


def test_a_folder_that_cannot_be_made_costs_only_time(tmp_path, mark):
    (tmp_path / "file").write_text("", encoding="utf-8")
    keep(tmp_path / "file" / "below", record(mark))
    assert recall(tmp_path / "file" / "below", mark, 60.0) is None
