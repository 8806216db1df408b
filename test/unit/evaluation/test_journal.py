"""Rows survive what cuts a run off."""

from __future__ import annotations

from vla_ros.evaluation.journal import Journal


def test_rows_are_there_again_when_a_run_is_taken_up(tmp_path):
    path = tmp_path / "below" / "rows.jsonl"
    first = Journal(path, resume=False)
    first.add("a", {"n": 1})
    first.add("b", {"n": 2})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"key": "c", "row": {"n"')  # the machine went down here
    second = Journal(path, resume=True)
    assert "a" in second
    assert "c" not in second
    second.add("c", {"n": 3})
    assert Journal(path, resume=True).rows == {"a": {"n": 1}, "b": {"n": 2}, "c": {"n": 3}}


def test_without_taking_up_it_begins_anew(tmp_path):
    path = tmp_path / "rows.jsonl"
    Journal(path, resume=False).add("a", {})
    assert Journal(path, resume=False).rows == {}
    assert path.read_text(encoding="utf-8") == ""
