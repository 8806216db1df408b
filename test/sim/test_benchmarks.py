"""Every benchmark runs, small, from any folder, and prints its figures as JSON on the last line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 200.0

SMALL = {
    "command_form": "--ticks 40",
    "contact": "--episodes 1",
    "networks": "keypoint --steps 2 --json",
    "reading": "--sentences 1",
    "safety_tick": "--ticks 5",
}
THROUGH_ROS = {"camera_to_command", "camera_transport", "graph_cost"}
"""These run in test/nodes."""


def test_no_benchmark_is_left_out():
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == {*SMALL, *THROUGH_ROS}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_benchmark_runs(name, tmp_path):
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *SMALL[name].split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])
