"""A test that waits for ever ends the run, wherever it waits and however often it was tried: with where it waits."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 120.0

AGAIN = """
import time
def test_waits_again():
    time.sleep(3600)
"""

IN_C = """
import ctypes
def test_waits():
    ctypes.PyDLL(None).sem_wait(ctypes.create_string_buffer(64))
"""

AT_ITS_END = """
import ctypes
import pytest
@pytest.fixture
def room():
    yield
    ctypes.PyDLL(None).sem_wait(ctypes.create_string_buffer(64))
def test_ends(room):
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="waits at a semaphore of glibc")
@pytest.mark.parametrize(
    ("program", "where"), [(AGAIN, "test_waits_again"), (IN_C, "test_waits"), (AT_ITS_END, "room")]
)
def test_a_run_that_is_stuck_ends_and_says_where(program: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_bytes((ROOT / "test" / "conftest.py").read_bytes())
    (tmp_path / "test_stuck.py").write_text(program, encoding="utf-8")
    options = ("--reruns", "2", "-p", "no:cacheprovider", "-o", "timeout=2", "-o", "faulthandler_timeout=4")
    settings = ("-c", str(ROOT / "pyproject.toml"), f"--rootdir={tmp_path}")
    command = [sys.executable, "-m", "pytest", *options, *settings, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "Timeout (0:00:04)!" in done.stderr
    assert f"in {where}" in done.stderr
