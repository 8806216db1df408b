"""One node as a process: whatever becomes of its log, it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vla_ros.ros import process as process_module
from vla_ros.ros.graph.description import NodeDescription
from vla_ros.ros.process import NodeProcess

DEADLINE = 30.0


def talker(text: str) -> NodeDescription:
    """A node that is this Python text instead."""
    return NodeDescription("talker", "none", "", True, 0, 1.0, 1.0, {}, prefix=(sys.executable, "-c", text))


def test_a_log_that_cannot_be_put_aside_costs_lines_and_not_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "LOG_BYTES", 10_000)
    (tmp_path / "talker.log.1").mkdir()  # nothing can take this name
    # Lines that do not fit any more, then one that would, then more than a pipe holds.
    text = "for _ in range(20): print('a' * 900)\nprint('b')\nfor _ in range(200): print('c' * 999)\nprint('last')"
    process = NodeProcess(talker(text), os.environ, tmp_path)
    try:
        assert process.wait(DEADLINE), "the process waits for a reader"
        assert process.exit_code() == 0
    finally:
        process.end(time.monotonic())
    assert process.last_lines(1) == "last"
    assert process.log_path.stat().st_size <= 10_000


DEAF = (
    "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, {2, 15}); print('up', flush=True); time.sleep(600)"
)
PARENT = """
import os, sys, time
from pathlib import Path
from vla_ros.ros.graph.description import NodeDescription
from vla_ros.ros.process import NodeProcess

node = NodeDescription("deaf", "none", "", True, 0, 1.0, 1.0, {}, prefix=(sys.executable, "-c", sys.argv[1]))
process = NodeProcess(node, os.environ, Path(sys.argv[2]))
while process.last_lines(1) != "up":
    time.sleep(0.05)
print(process.pid, flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """Say whether a process is there, and not only waits for somebody to ask for its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_node_that_does_not_listen_does_not_outlive_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    """As one that imports its libraries while Ctrl-C is pressed twice: no handler of Python's runs there."""
    command = [sys.executable, "-c", PARENT, DEAF, str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(how)
    parent.wait(DEADLINE)
    deadline = time.monotonic() + DEADLINE
    while (running := is_running(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    gone = not running
    if not gone:
        os.kill(pid, signal.SIGKILL)
    assert gone, "the node lives on"


def test_the_guard_of_a_process_ends_with_it(tmp_path: Path) -> None:
    process = NodeProcess(talker("print('up')"), os.environ, tmp_path)
    assert process.wait(DEADLINE)
    assert process._guarding.poll() is not None
    process = NodeProcess(talker("print('up')"), os.environ, tmp_path)
    while process.exit_code() is None:
        time.sleep(0.05)
    assert process._guarding.poll() is not None
