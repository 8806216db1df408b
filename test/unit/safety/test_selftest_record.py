"""A pass is good for what it was made with, for a while, and nothing else."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from vla_ros.robot.contract import parse_contract
from vla_ros.safety.selftest.record import KEY_FILE, SelftestRecord, examine, fingerprint, keep, recall, table_names
from vla_ros.safety.selftest.table import fault_table


@pytest.fixture
def mark(contract, parameters):
    return fingerprint(contract, parameters)


def record(mark, tried=None, missed=(), age=0.0, stopped=None):
    stopped = table_names() if stopped is None else stopped
    return SelftestRecord(mark, len(stopped) if tried is None else tried, missed, time.time() - age, stopped)


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
    monkeypatch.setattr("vla_ros.safety.selftest.record.FILES", ("types.py",))
    assert fingerprint(contract, parameters) != mark


def test_a_pass_is_kept_and_recalled(tmp_path, mark):
    kept = record(mark)
    keep(tmp_path, kept)
    assert recall(tmp_path, mark, 60.0) == kept


@pytest.mark.parametrize(
    "kept", [{"tried": 0}, {"missed": ("one",)}, {"tried": 1, "stopped": ("one",)}, {"stopped": ()}]
)
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


@pytest.mark.parametrize("text", ["", "[]", "{", '{"tried": "many"}', "null", '{"record": 1, "signature": 2}'])
def test_a_file_that_is_no_record_is_none(tmp_path, mark, text):
    keep(tmp_path, record(mark))
    (tmp_path / f"{mark}.json").write_text(text, encoding="utf-8")
    assert recall(tmp_path, mark, 1e9) is None


def test_a_record_under_a_name_that_is_not_its_own_is_none(tmp_path, mark):
    keep(tmp_path, record("another"))
    (tmp_path / "another.json").rename(tmp_path / f"{mark}.json")
    assert "another contract" in examine(tmp_path, mark, 60.0)[1]


def rewrite(path, change):
    kept = json.loads(path.read_text(encoding="utf-8"))
    change(kept)
    path.write_text(json.dumps(kept), encoding="utf-8")


CHANGES = {
    "tried": lambda kept: kept["record"].update(tried=1),
    "finished": lambda kept: kept["record"].update(finished=time.time() - 1.0),
    "a name": lambda kept: kept["record"]["stopped"].pop(),
    "no signature": lambda kept: kept.update(signature=""),
    "another signature": lambda kept: kept.update(signature="0" * 64),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_record_that_was_changed_arms_nothing(tmp_path, mark, what):
    keep(tmp_path, record(mark))
    assert recall(tmp_path, mark, 60.0) is not None
    rewrite(tmp_path / f"{mark}.json", CHANGES[what])
    assert "not signed with the key" in examine(tmp_path, mark, 60.0)[1]


def test_a_file_that_claims_a_pass_arms_nothing(tmp_path, mark):
    keep(tmp_path, record("another"))  # the key is there
    values = {"fingerprint": mark, "tried": 1, "missed": [], "finished": time.time()}
    (tmp_path / f"{mark}.json").write_text(json.dumps(values), encoding="utf-8")
    assert recall(tmp_path, mark, 60.0) is None


def test_a_pass_of_another_table_arms_nothing(tmp_path, mark, monkeypatch):
    keep(tmp_path, record(mark))
    monkeypatch.setattr("vla_ros.safety.selftest.record.fault_table", lambda: fault_table()[1:])
    assert "does not name every fault" in examine(tmp_path, mark, 60.0)[1]


def test_a_pass_signed_with_another_key_arms_nothing(tmp_path, mark):
    keep(tmp_path / "theirs", record(mark))
    keep(tmp_path / "ours", record("another"))
    (tmp_path / "theirs" / f"{mark}.json").rename(tmp_path / "ours" / f"{mark}.json")
    assert "not signed with the key" in examine(tmp_path / "ours", mark, 60.0)[1]


@pytest.mark.parametrize(
    ("name", "mode"), [("", 0o777), ("", 0o770), (KEY_FILE, 0o644), (KEY_FILE, 0o660), ("json", 0o666)]
)
def test_what_others_can_write_arms_nothing(tmp_path, mark, name, mode):
    folder = tmp_path / "kept"
    keep(folder, record(mark))
    place = {"": folder, "json": folder / f"{mark}.json"}.get(name, folder / KEY_FILE)
    place.chmod(mode)
    found, why = examine(folder, mark, 60.0)
    assert found is None
    assert f"{mode:04o}" in why


def test_a_key_that_others_could_read_is_replaced(tmp_path, mark):
    keep(tmp_path, record(mark))
    key = tmp_path / KEY_FILE
    before = key.read_bytes()
    key.chmod(0o644)
    keep(tmp_path, record(mark))
    assert recall(tmp_path, mark, 60.0) is not None
    assert key.read_bytes() != before
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_followed(tmp_path, mark):
    keep(tmp_path / "real", record(mark))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert "is a link" in examine(tmp_path / "link", mark, 60.0)[1]


def test_the_folder_of_another_user_arms_nothing(tmp_path, mark, monkeypatch):
    keep(tmp_path, record(mark))
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert "belongs to user" in examine(tmp_path, mark, 60.0)[1]


def test_a_folder_that_cannot_be_made_costs_only_time(tmp_path, mark):
    (tmp_path / "file").write_text("", encoding="utf-8")
    keep(tmp_path / "file" / "below", record(mark))
    assert recall(tmp_path / "file" / "below", mark, 60.0) is None
