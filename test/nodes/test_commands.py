"""The commands that need a graph run, small: demo, say and record, each from a folder of its own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 150.0


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "vla_ros.cli.main", *words]


def environment(runtime: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(runtime)}


def test_say_stops_a_demo_from_another_folder(tmp_path):
    for name in ("one", "other", "runtime"):
        (tmp_path / name).mkdir()
    words = command("demo", "--timeout", "20", "--view", "off", "--keep-running")
    with subprocess.Popen(
        words, cwd=tmp_path / "one", env=environment(tmp_path / "runtime"), stdout=subprocess.PIPE, text=True
    ) as demo:
        try:
            assert demo.stdout is not None
            lines = []
            for line in demo.stdout:  # ends with the process; the test itself has a limit
                lines.append(line)
                if "the graph stays up" in line:
                    break
            assert "the graph stays up" in lines[-1], "".join(lines)
            said = subprocess.run(
                command("say", "stop", "--json"),
                cwd=tmp_path / "other",
                env=environment(tmp_path / "runtime"),
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
            assert said.returncode == 0, said.stdout + said.stderr
            assert json.loads(said.stdout.splitlines()[-1])["acknowledged_by_safety_node"] is True
            demo.send_signal(signal.SIGINT)
            rest = demo.communicate(timeout=60.0)[0]
        finally:
            demo.kill()
    assert "error" in json.loads(rest.splitlines()[-1]) or json.loads(rest.splitlines()[-1])["success"]


def test_record_keeps_an_episode(tmp_path):
    words = command(
        "record",
        "--episodes",
        "1",
        "--seed",
        "100",
        "--format",
        "lerobot",
        "--keep-failures",
        "--json",
        "--timeout",
        "20",
        "--out",
        str(tmp_path / "recorded"),
    )
    done = subprocess.run(
        words, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["kept"] == 1


def test_a_policy_that_does_not_fit_is_the_reason_of_the_error(tmp_path):
    """What the policy node says in its log is what `demo --json` says."""
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "policy.json").write_text("{}", encoding="utf-8")
    words = command("demo", "--policy", str(policy), "--json", "--out", str(tmp_path / "runs"))
    done = subprocess.run(
        words, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 1
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert error.startswith("policy_node: cannot configure: CheckpointError: ")


@pytest.mark.parametrize("robot", ["so101", "fr3"])
def test_a_robot_without_a_shipped_policy_is_held(tmp_path, robot):
    done = subprocess.run(
        command("demo", "--robot", robot, "--view", "off"),
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any(f"no policy ships for robot '{robot}'" in line and "by hand" in line for line in lines)
    figures = json.loads(lines[-1])
    assert figures["driven_by"] == "hold" and figures["completed"] is True and figures["success"] is False
    assert figures["command_rate_hz"] > 50.0 and Path(tmp_path / figures["video"]).is_file()


def test_a_robot_without_a_shipped_policy_is_driven_from_a_terminal(tmp_path):
    terminal, theirs = pty.openpty()
    words = command("demo", "--robot", "ur5e", "--view", "off")
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment(tmp_path), stdin=theirs, stdout=subprocess.PIPE, text=True
    ) as demo:
        try:
            assert demo.stdout is not None
            lines = []
            for line in demo.stdout:  # ends with the process; the test itself has a limit
                lines.append(line)
                if "Esc: end" in line:
                    os.write(terminal, b"rr")
                    os.write(terminal, b"\x1b")
            assert demo.wait(timeout=LIMIT) == 0, "".join(lines)
        finally:
            demo.kill()
            os.close(terminal)
            os.close(theirs)
    figures = json.loads(lines[-1])
    assert figures["driven_by"] == "keyboard" and figures["completed"] is True
