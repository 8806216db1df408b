"""The benchmarks that go through ROS 2 run, small, and print their figures as JSON on the last line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 150.0


def figures(name: str, *words: str, folder: Path) -> dict:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_camera_transport(tmp_path):
    found = figures("camera_transport", "--frames", "5", "--out", str(tmp_path), folder=tmp_path)
    assert found["640x480"]["sent"] == 5
    assert (tmp_path / "camera_transport.png").exists()


def test_camera_to_command(tmp_path):
    found = figures("camera_to_command", "--frames", "15", "--out", str(tmp_path), folder=tmp_path)
    assert found["frames_sent"] > 0
    assert found["frames_to_command"] > 0
    assert found["frame_to_command_ms_p50"] > 0.0
    assert (tmp_path / "camera_to_command.png").exists()


def test_graph_cost(tmp_path):
    pytest.importorskip("torch")
    found = figures("graph_cost", "--seconds", "1", "--tasks", "1", folder=tmp_path)
    nodes = found["nodes"]
    assert set(nodes) == {
        "sim_node",
        "perception_node",
        "instruction_node",
        "safety_node",
        "policy_node",
        "action_node",
    }
    assert found["seconds_at_rest"] >= 1.0
    assert found["seconds_in_motion"] > 0.0
    assert found["memory_mb"] >= max(node["memory_mb"] for node in nodes.values())
    # Neither pictures nor kinematics: no room for images in shared memory, and no libraries that they do not use.
    for name in ("instruction_node", "action_node"):
        assert nodes[name]["memory_mb"] < 130, nodes
