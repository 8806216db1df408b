"""What dead processes left in shared memory is found and removed; what anyone uses, and what is not ours, stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vla_ros.cli import probes, shared_memory
from vla_ros.cli.main import main
from vla_ros.cli.shared_memory import SharedMemoryError, find_leftovers, remove_leftovers

SIZE = 1 << 20

# Not by Python's own mmap, which keeps the file open as well; 1, 1: PROT_READ, MAP_SHARED.
MAPPED = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
with open(sys.argv[1], "rb") as file:
    assert libc.mmap(None, 4096, 1, 1, file.fileno(), 0) != ctypes.c_void_p(-1).value
print("ready", flush=True)
sys.stdin.read()
"""
OPEN = """
import sys
file = open(sys.argv[1], "rb")
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def user(program: str, file: Path) -> Iterator[None]:
    """Let a process of its own use a file as long as the block lasts."""
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield
        assert child.stdin is not None
        child.stdin.close()


def segment(folder: Path, name: str) -> Path:
    file = folder / name
    file.write_bytes(bytes(range(256)) * (SIZE // 256))
    return file


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_what_nobody_uses_is_counted_and_removed_and_nothing_else(tmp_path):
    segment(tmp_path, "fastrtps_left")
    segment(tmp_path, "fast_datasharing_left")
    segment(tmp_path, "sem.mp-left")
    (tmp_path / "fastrtps_link").symlink_to(tmp_path / "sem.mp-left")
    (tmp_path / "fastrtps_folder").mkdir()
    found = find_leftovers(tmp_path)
    assert {file.name for file in found.files} == {"fastrtps_left", "fast_datasharing_left"}
    assert 2 * SIZE <= found.size < 3 * SIZE
    removed = remove_leftovers(tmp_path)
    assert removed.files == found.files
    assert removed.size == found.size
    assert names(tmp_path) == {"sem.mp-left", "fastrtps_link", "fastrtps_folder"}


@pytest.mark.parametrize("program", [MAPPED, OPEN], ids=["mapped", "open"])
def test_what_a_living_process_uses_stays_until_it_ends(tmp_path, program):
    used = segment(tmp_path, "fastrtps_used")
    segment(tmp_path, "fastrtps_used_el")  # what belongs to it is in use with it
    segment(tmp_path, "fastrtps_left")
    with user(program, used):
        assert [file.name for file in remove_leftovers(tmp_path).files] == ["fastrtps_left"]
        assert names(tmp_path) == {"fastrtps_used", "fastrtps_used_el"}
    assert len(remove_leftovers(tmp_path).files) == 2


def test_a_lock_speaks_for_a_process_that_cannot_be_seen(tmp_path):
    """As in another container that shares /dev/shm: the processes that are shown here are others."""
    segment(tmp_path, "fastrtps_used")
    lock = segment(tmp_path, "fastrtps_used_el")
    proc = tmp_path / "proc"
    (proc / "17" / "fd").mkdir(parents=True)
    (proc / "17" / "maps").write_text("")
    locking = OPEN.replace("print", "import fcntl; fcntl.flock(file, fcntl.LOCK_EX); print")
    with user(locking, lock):
        assert remove_leftovers(tmp_path, proc).files == ()
    assert len(remove_leftovers(tmp_path, proc).files) == 2


@pytest.mark.parametrize("case", ["none", "empty", "one process unreadable"])
def test_while_processes_cannot_be_read_nothing_is_removed(tmp_path, case):
    left = segment(tmp_path, "fastrtps_left")
    proc = tmp_path / "proc"
    if case != "none":
        proc.mkdir()
    if case == "one process unreadable":
        (proc / "17").mkdir()
        (proc / "17" / "fd").write_text("no folder: reading it fails, also for root")
        (proc / "18" / "fd").mkdir(parents=True)
        (proc / "18" / "maps").write_text("")
    with pytest.raises(SharedMemoryError, match="not known"):
        remove_leftovers(tmp_path, proc)
    assert left.exists()


def test_files_of_another_user_are_counted_and_stay(tmp_path, monkeypatch):
    segment(tmp_path, "fastrtps_left")
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    proc = tmp_path / "proc"
    (proc / "17" / "fd").mkdir(parents=True)
    (proc / "17" / "maps").write_text("")
    assert find_leftovers(tmp_path, proc).foreign == 1
    assert remove_leftovers(tmp_path, proc).files == ()
    assert names(tmp_path) == {"fastrtps_left", "proc"}


def test_the_doctor_warns_of_much_and_says_what_removes_it(tmp_path, monkeypatch):
    segment(tmp_path, "fastrtps_left")
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    assert "1 files of Fast DDS, 1 MB, of no living process that I can see" in probes.left_in_shared_memory()
    monkeypatch.setattr(probes, "LEFT_BYTES", SIZE / 2)
    with pytest.raises(probes.MissingError, match="1 files") as caught:
        probes.left_in_shared_memory()
    assert caught.value.advice == "vla-ros doctor --clean-shared-memory"


def test_the_command_removes_and_says_how_much(tmp_path, monkeypatch, capsys):
    segment(tmp_path, "fastrtps_left")
    used = segment(tmp_path, "fastrtps_used")
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    with user(MAPPED, used):
        assert main(["doctor", "--clean-shared-memory", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["removed"] == 1
    assert report["left"] == 0
    assert names(tmp_path) == {"fastrtps_used"}


def test_the_command_fails_where_processes_cannot_be_read(tmp_path, monkeypatch, capsys):
    left = segment(tmp_path, "fastrtps_left")
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(shared_memory, "_used_names", unreadable)
    assert main(["doctor", "--clean-shared-memory"]) == 1
    assert "not known" in capsys.readouterr().err
    assert left.exists()


def unreadable(proc):
    raise SharedMemoryError(f"{proc} cannot be read: which files are in use is not known")
