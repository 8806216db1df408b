"""Whatever happens to a process, the work ends: with all results, or with an error that says what it was."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from vla_ros.envs.processes import work_in_processes
from vla_ros.errors import SimulationError, VlaError

WORKERS = """
import os, signal, time
from vla_ros.errors import SimulationError

def make(setting):
    if setting == "broken":
        raise SimulationError("no cell can be built")
    return setting

def work(tool, item):
    if tool == "killed" and item == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out
    if tool == "slow":
        time.sleep(600.0)
    if item == 7:
        raise ValueError("seven")
    time.sleep(0.2 if item == 0 else 600.0 if item == 600 else 0.0)
    return tool, item
"""
"""In a module of its own, for another process cannot import a test."""


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "workers_of_a_test.py").write_text(WORKERS)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("workers_of_a_test")


@pytest.mark.parametrize("ordered", [True, False])
def test_each_item_is_worked_on_once(workers: ModuleType, ordered: bool) -> None:
    results = list(work_in_processes(workers.make, "tool", workers.work, range(5), 2, ordered=ordered))
    assert (results if ordered else sorted(results)) == [("tool", item) for item in range(5)]
    assert list(work_in_processes(workers.make, "tool", workers.work, [], 2)) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("setting", "items", "error", "says"),
    [
        ("broken", range(3), SimulationError, "no cell can be built"),
        ("killed", range(3), VlaError, "ended by itself.*fewer --processes"),
        ("tool", range(9), ValueError, "seven"),
    ],
)
def test_what_goes_wrong_in_a_process_ends_the_work(
    workers: ModuleType, setting: str, items: range, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        list(work_in_processes(workers.make, setting, workers.work, items, 2, ordered=False))


def test_no_process_is_left_when_the_one_that_started_it_is_killed(workers: ModuleType, tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path[:0] = {[str(tmp_path), str(Path.cwd())]!r}\n"
        "import multiprocessing, threading, time, workers_of_a_test as workers\n"
        "from vla_ros.envs.processes import work_in_processes\n"
        "def say():\n"
        "    while not multiprocessing.active_children(): time.sleep(0.05)\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "threading.Thread(target=say, daemon=True).start()\n"
        "list(work_in_processes(workers.make, 'slow', workers.work, [0], 1))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(5.0)  # it has begun to work
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60.0
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.1)


INTERRUPTED = """
import sys, threading, time; sys.path[:0] = {paths!r}
import multiprocessing, workers_of_a_test as workers
from vla_ros.envs.processes import work_in_processes
def say():
    while not multiprocessing.active_children(): time.sleep(0.01)
    print("started", flush=True)
threading.Thread(target=say, daemon=True).start()
try:
    for result in work_in_processes(workers.make, "tool", workers.work, [1, 600], 2):
        print(result, flush=True)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("lines", [1, 2])
def test_ctrl_c_ends_the_processes_without_a_word(workers: ModuleType, tmp_path: Path, lines: int) -> None:
    """While they import their libraries; and when one is at work and one has nothing to do."""
    script = INTERRUPTED.format(paths=[str(tmp_path), str(Path.cwd())])
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    for _ in range(lines):
        parent.stdout.readline()
    os.killpg(parent.pid, signal.SIGINT)
    out, err = parent.communicate(timeout=100.0)
    assert out.splitlines() == ["interrupted"]
    assert err == ""
    assert parent.returncode == 0


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
