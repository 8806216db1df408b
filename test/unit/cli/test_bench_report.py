"""What a report says of itself, and where its tables are written."""

from __future__ import annotations

import copy

import pytest

from vla_ros.cli.bench_reports.markdown import write_tables
from vla_ros.cli.bench_reports.report import missed_in, summary_of, violations_in

GRAPH_ROW = {
    "name": "a kill",
    "tried": True,
    "stopped": True,
    "violations": 0,
    "sentence": "",
    "got": "HOLD: policy_silent",
}
KILL = {"signal": "SIGKILL", "node": "sim_node", "sentence": "", "held": True, "resumed": True}
EDGE = {
    "line": 16,
    "name": "a gap",
    "where": "in process",
    "tried": 1,
    "passed": 1,
    "violations": 0,
    "sentence": "late",
}
FIGURES = {
    "strikes": 1,
    "held": 1,
    "resumed": 1,
    "commands": 50,
    "lost": 0,
    "violations": 0,
    "hold_ms_p50": 81.0,
    "hold_ms_p99": 90.0,
    "reasons": ["policy_silent"],
}


@pytest.fixture
def report():
    return copy.deepcopy(
        {
            "missed": [],
            "table": {"tried": 1, "stopped": 1, "rows": [{"name": "NaN", "got": "HOLD: x", "stopped": True}]},
            "fuzz": {
                "ticks": 1000,
                "violations": 0,
                "raised": 0,
                "tick_ms_p50": 0.5,
                "tick_ms_p99": 1.5,
                "worst": {
                    "joint_velocity": 1.0,
                    "joint_acceleration": 1.0,
                    "joint_jerk": 0.2,
                    "beyond_workspace_mm": 0.0,
                    "table_mm": 3.0,
                },
            },
            "clean": {
                "violations": 0,
                "scenes": 2,
                "false_stop_share": 0.005,
                "modified_share": 0.01,
                "success_rate": 0.99,
                "success_without": 1.0,
            },
            "graph": {
                "rows": [GRAPH_ROW],
                "faults": [
                    {
                        "name": "a kill",
                        "tried": 3,
                        "stopped": 3,
                        "got": ["HOLD: policy_silent"],
                        "deadline_ms": 100.0,
                        "reaction_ms_p50": 81.0,
                        "reaction_ms_p99": 99.4,
                        "stop_ms_p50": 50.0,
                        "analytic_stop_ms_p50": 44.0,
                        "travel_rad_p50": -0.0123,
                        "analytic_travel_rad_p50": -0.0111,
                        "violations": 0,
                        "commands": 300,
                    }
                ],
            },
            "edges": {"tried": 1, "passed": 1, "violations": 0, "rows": [EDGE]},
            "kills": {**FIGURES, "groups": {"SIGKILL of sim_node": FIGURES}, "rows": [KILL]},
            "load": {
                "violations": 0,
                "seconds": 600.0,
                "ticks": 60000,
                "missed_ticks": 600,
                "overruns": 7,
                "commands": 59000,
                "lost": 3,
                "scenes": 40,
                "load_processes": 2,
                "holds": {"state_stale": 4},
                "states": {"RUN": 0.9, "HOLD": 0.1},
            },
        }
    )


def test_a_sound_report_misses_nothing(report):
    assert missed_in(report) == []
    assert sum(violations_in(report).values()) == 0
    assert "nothing missed" in summary_of(report)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("fuzz", "violations"), 2, "2 violations in fuzz"),
        (("fuzz", "raised"), 3, "3 ticks raise"),
        (("clean", "false_stop_share"), 0.0051, "in a stop"),
        (("clean", "modified_share"), 0.011, "modified"),
        (("clean", "success_rate"), 0.98, "success"),
        (("load", "violations"), 1, "1 violations in load"),
        (("kills", "violations"), 1, "1 violations in kills"),
        (("edges", "violations"), 2, "2 violations in edges"),
        (("edges", "rows", 0, "passed"), 0, "line 16, in process: a gap: late"),
        (("table", "rows", 0, "stopped"), False, "fault table: NaN"),
        (("graph", "rows", 0, "stopped"), False, "graph: a kill"),
        (("graph", "rows", 0, "violations"), 4, "4 violations in graph"),
        (("kills", "rows", 0, "held"), False, "SIGKILL of sim_node"),
        (("kills", "rows", 0, "resumed"), False, "SIGKILL of sim_node"),
    ],
)
def test_whatever_is_not_as_it_must_be_is_missed(report, place, value, says):
    target = report
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    assert any(says in sentence for sentence in missed_in(report)), missed_in(report)


def test_a_fault_that_could_not_be_tried_is_no_miss_and_no_success(report):
    report["graph"]["rows"][0] |= {"tried": False, "stopped": False}
    report["graph"]["faults"][0] |= {"tried": 0, "stopped": 0, "got": []}
    assert missed_in(report) == []
    assert "no try" in summary_of(report)


def test_tables_go_between_their_marks_and_nothing_else_is_touched(report, tmp_path):
    path = tmp_path / "page.md"
    path.write_text(
        "before\n<!-- bench:kills -->\nold\n<!-- /bench:kills -->\nafter <!-- not:mine -->\n", encoding="utf-8"
    )
    write_tables(report, path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- bench:kills -->\n| strike |")
    assert text.endswith("<!-- /bench:kills -->\nafter <!-- not:mine -->\n")
    assert "| SIGKILL of sim_node | 1 | 1 | 1 | 81 / 90 | 0 in 50 | policy_silent |" in text
    write_tables(report, path)
    assert path.read_text(encoding="utf-8") == text  # again changes nothing


def test_a_part_that_was_not_measured_keeps_its_table(report, tmp_path):
    path = tmp_path / "page.md"
    path.write_text("<!-- bench:load -->\nkept\n<!-- /bench:load -->\n", encoding="utf-8")
    del report["load"]
    write_tables(report, path)
    assert "kept" in path.read_text(encoding="utf-8")


def test_a_new_file_gets_every_table(report, tmp_path):
    path = tmp_path / "new.md"
    write_tables(report, path)
    text = path.read_text(encoding="utf-8")
    assert "| a kill | HOLD: policy_silent | 81 / 99 | 100 | 50 / 44 | 0.012 / 0.011 | 3 of 3 | 0 in 300 |" in text
    assert "600 of 60,000 (1.00%)" in text
    assert "1,000 ticks of nonsense: 0 violations" in text
