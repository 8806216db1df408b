"""The examples run as they stand, each in a process of its own, and say what their first lines promise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAYS = {
    "read_a_data_set": "1.1 s 'go forward': x by 0.01 m, brightness 220",
    "safety_layer_around_your_policy": "RUN workspace",
    "serve_a_policy": "12 cm to the left",
    "your_own_network": "step 199: loss",
    "your_own_robot": "stopped the policy dies -> HOLD: policy_silent",
}


def test_every_example_is_tried():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", sorted(SAYS))
def test_example_runs(name, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert SAYS[name] in ended.stdout
    assert "MISSED" not in ended.stdout


@pytest.mark.parametrize("name", sorted(SAYS))
def test_example_is_short(name):
    lines = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 60
