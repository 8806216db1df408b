"""Shared memory that is full before a node starts, in a mount namespace of its own, and what is counted as full."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vla_ros.bringup.runner import graph_environment
from vla_ros.errors import VlaError
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.dds.shared_memory_check import SharedMemoryFullError, missing_bytes, require_shared_memory

PAGE = mmap.PAGESIZE
SMALL = 'mount -t tmpfs -o size="$1" tmpfs /dev/shm && shift && exec "$@"'


def with_shared_memory(size: int, *command: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run a command with `size` bytes of /dev/shm of its own."""
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL, "sh", str(size), *command]
    environment = {**os.environ, **graph_environment(free_domain()), **options}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def namespaces() -> None:
    if shutil.which("unshare") is None or with_shared_memory(PAGE, "true").returncode != 0:
        pytest.skip("this machine lets nobody mount in a namespace of his own")


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(
    "module", ["vla_ros.nodes.safety_node", "vla_ros.nodes.perception_node", "vla_ros.nodes.preflight"]
)
def test_a_node_says_that_shared_memory_is_full(module: str) -> None:
    done = with_shared_memory(PAGE, sys.executable, "-m", module)
    assert done.returncode == 1, done
    assert done.stderr.startswith(f"/dev/shm is full: ROS 2 needs {PAGE} bytes more")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("command", [["demo"], ["say", "stop"]])
def test_a_command_says_that_shared_memory_is_full(command: list[str]) -> None:
    done = with_shared_memory(PAGE, sys.executable, "-m", "vla_ros.cli.main", *command)
    assert done.returncode == 1, done
    assert "/dev/shm is full" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("namespaces")
def test_the_doctor_says_that_shared_memory_is_full() -> None:
    program = (
        "from vla_ros.cli import probes as p\ntry: p.shared_memory()\nexcept p.MissingError as e: print(e, e.advice)"
    )
    done = with_shared_memory(PAGE, sys.executable, "-c", program)
    assert done.stdout.startswith("/dev/shm is full: ROS 2 needs"), done
    assert "--clean-shared-memory" in done.stdout
    done = with_shared_memory(PAGE, sys.executable, "-m", "vla_ros.cli.probes", "ros")
    assert "/dev/shm is full" in done.stderr


@pytest.mark.usefixtures("namespaces")
def test_the_smallest_shared_memory_that_is_accepted_suffices() -> None:
    program = "import vla_ros.nodes, rclpy; rclpy.init(); rclpy.create_node('small'); print('alive')"
    done = with_shared_memory(2 * PAGE, sys.executable, "-c", program)
    assert done.returncode == 0, done
    assert done.stdout.endswith("alive\n"), done


@pytest.mark.usefixtures("namespaces")
def test_a_page_that_is_there_already_is_not_asked_for_again() -> None:
    """Once a process has been traced, all room may be used up: by images, say."""
    programs = "'$0' -c 'import rclpy'; dd if=/dev/zero of=/dev/shm/full bs=4096; '$0' -c 'import vla_ros.nodes, rclpy'"
    shell = programs.replace("$0", sys.executable)
    done = with_shared_memory(16 * PAGE, "sh", "-c", shell)
    assert done.returncode == 0, done


def sized(monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    status = os.statvfs("/")
    fields = [*status[:1], PAGE, status[2], status[3], pages, *status[5:]]
    monkeypatch.setattr(os, "statvfs", lambda folder: os.statvfs_result(fields))


@pytest.mark.parametrize(("pages", "missing"), [(0, 2 * PAGE), (1, PAGE), (2, 0), (1000, 0)])
def test_two_pages_are_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pages: int, missing: int) -> None:
    sized(monkeypatch, pages)
    assert missing_bytes(tmp_path) == missing


def test_only_pages_of_this_user_and_of_all_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sized(monkeypatch, 0)
    (tmp_path / f"lttng-ust-wait-6-{os.getuid() + 1}").write_bytes(bytes(PAGE))
    (tmp_path / "lttng-ust-wait-6").touch()  # made, but without its page
    assert missing_bytes(tmp_path) == 2 * PAGE
    (tmp_path / "lttng-ust-wait-6").write_bytes(bytes(PAGE))
    assert missing_bytes(tmp_path) == PAGE
    (tmp_path / f"lttng-ust-wait-6-{os.getuid()}").write_bytes(bytes(PAGE))
    assert missing_bytes(tmp_path) == 0


def test_where_there_is_no_shared_memory_nothing_is_missing(tmp_path: Path) -> None:
    require_shared_memory(tmp_path / "nowhere")


def test_the_error_can_be_caught_and_ends_a_process_that_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sized(monkeypatch, 1)
    with pytest.raises(VlaError, match=f"{PAGE} bytes more") as caught:
        require_shared_memory(tmp_path)
    assert isinstance(caught.value, SharedMemoryFullError)
    assert caught.value.code == str(caught.value)
