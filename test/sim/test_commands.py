"""Every command that needs no graph runs, small, as a process of its own; those that need one run in test/nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from vla_ros.cli.main import present_commands

ROOT = Path(__file__).parents[2]
LIMIT = 250.0

WITHOUT_GRAPH = {"doctor", "selftest", "collect", "train", "eval", "models", "bench", "robot", "check"}
READERS = {"explain"}  # of a trace: test/nodes/test_trace_node.py
SERVERS = {"serve"}  # until they are ended: test/unit/policies/test_serving.py
THROUGH_ROS = {"demo", "say", "record", "console"}


def test_no_command_is_left_out():
    assert set(present_commands()) == WITHOUT_GRAPH | READERS | SERVERS | THROUGH_ROS


def vla_ros(folder: Path, words: str, codes: tuple[int, ...] = (0,)) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "vla_ros.cli.main", *words.split(), "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode in codes, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_doctor_runs(tmp_path):
    assert len(vla_ros(tmp_path, "doctor", codes=(0, 1))["checks"]) > 5


def test_selftest_runs(tmp_path):
    assert vla_ros(tmp_path, "selftest")["missed"] == 0


def test_bench_runs(tmp_path):
    assert vla_ros(tmp_path, "bench safety --only clean --scenes 1 --out bench")["missed"] == []


def test_robot_runs(tmp_path):
    """With meshes: see test/unit/robot/test_simplify.py."""
    assert "no collision mesh" in vla_ros(tmp_path, "robot simplify so101 --out so101.urdf", codes=(1,))["error"]


def test_check_runs(tmp_path):
    answer = vla_ros(tmp_path, "check checkpoints/pick --inferences 0")
    assert answer["fits"] and answer["misfits"] == []


def test_models_runs(tmp_path):
    assert vla_ros(tmp_path, "models keypoint --no-train --seconds 0.01 --threads 1")["models"]


def test_what_is_collected_is_trained_and_evaluated(tmp_path):
    """The commands of the README, one after the other."""
    assert vla_ros(tmp_path, "collect --episodes 1 --processes 1 --out data")["stored"] == 1
    assert (
        vla_ros(tmp_path, "train --data data --steps 2 --batch 2 --threads 1 --device cpu --out policy")["steps"] == 2
    )
    words = "eval --task pick --episodes 1 --seed 1000 --processes 1 --policy policy --out report"
    assert vla_ros(tmp_path, words)["episodes"] == 1
