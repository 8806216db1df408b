"""`vla-ros bench --resume` goes on with a report of the same robot, policy, seed and amount, and with no other."""

from __future__ import annotations

import json
import os

import pytest

from vla_ros.cli.commands import bench
from vla_ros.cli.main import main


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Run the command with parts that measure nothing; returns the exit code."""
    counts = {"tried": 1, "stopped": 1, "missed": 0, "rows": []}
    monkeypatch.setattr(bench, "MEASURE", {"table": lambda args: counts | {"robot": args.robot}})
    monkeypatch.setattr(bench, "PARTS", ("table",))
    return lambda *words: main(["bench", "safety", "--only", "table", "--out", str(tmp_path), *words])


def test_a_report_goes_on_with_what_it_was_measured_with(measure, tmp_path):
    assert measure("--robot", "ur5e", "--seed", "3") == measure("--robot", "ur5e", "--seed", "3", "--resume") == 0
    report = json.loads((tmp_path / "safety.json").read_text())
    assert (report["robot"], report["table"]["robot"], report["seed"]) == ("ur5e", "ur5e", 3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--robot ur5e", "robot: 'panda' then, 'ur5e' now"),
        ("--policy other", "policy: 'checkpoints/pick' then, 'other' now"),
        ("--seed 4", "seed: 0 then, 4 now"),
        ("--quick", "quick: False then, True now"),
    ],
)
def test_figures_of_one_are_not_said_of_another(measure, tmp_path, capsys, words, says):
    measure()
    before = (tmp_path / "safety.json").read_bytes()
    assert measure("--resume", *words.split()) == 1
    assert says in capsys.readouterr().err
    assert (tmp_path / "safety.json").read_bytes() == before


def test_a_report_of_an_earlier_version_goes_on(measure, tmp_path):
    measure()
    report = json.loads((tmp_path / "safety.json").read_text())
    del report["policy"]
    (tmp_path / "safety.json").write_text(json.dumps(report))
    assert measure("--resume") == 0


def test_a_report_is_whole_after_a_kill_and_a_damaged_one_is_named(measure, tmp_path, capsys, monkeypatch):
    measure()

    def killed(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        assert measure("--seed", "9") == 1
    assert json.loads((tmp_path / "safety.json").read_text())["seed"] == 0
    (tmp_path / "safety.json").write_text('{"robot": "pan')
    assert measure("--resume") == 1 and "is no report" in capsys.readouterr().err


def test_edges_in_process_are_measured_and_written(tmp_path, capsys):
    """A line that needs no graph: report, table and exit code are made of its rows."""
    page = tmp_path / "page.md"
    words = ["bench", "safety", "--only", "edges", "--where", "process", "--lines", "17", "--out", str(tmp_path)]
    assert main([*words, "--json", "--markdown", str(page)]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["edges"]["tried"], report["edges"]["passed"], report["edges"]["violations"]) == (2, 2, 0)
    assert {row["line"] for row in report["edges"]["rows"]} == {17}
    row = "| 17: thin obstacles and close pairs | a sheet of 4 mm at 10 Hz | in process | 1 of 1 | 0 |"
    assert row in page.read_text(encoding="utf-8")
