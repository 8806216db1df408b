"""The benchmark of command forms runs, and says that the grid is better at any jitter."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "command_form.py"


def test_benchmark_of_command_forms(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("command_form", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["command_form.py", "--ticks", "40"])
    assert module.main() == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    worst = {
        form: max(row["acceleration"] for row in rows if row["form"] == form) for form in {row["form"] for row in rows}
    }
    assert worst["points on a grid"] < 1.3
    assert worst["one point on arrival"] > 10.0
