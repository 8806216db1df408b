"""One process of the graph: its own process group, a bounded log, an orderly end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from vla_ros.ros.graph.description import NodeDescription, module_of
from vla_ros.ros.graph.processes import ProcessDescription

LOG_BYTES = 2_000_000
"""Maximum size of a log file, bytes; the previous one is kept beside it as `.1`."""

REFUSALS = ("cannot configure: ", "cannot activate: ")
"""Prefixes in a node's log before the reason of a refused transition."""

_LOG_PAUSE = 0.2  # s
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


PARENT = "VLA_ROS_PARENT"
"""Environment variable with the id of the process that started the graph, which no node may outlive."""


def _end_with_parent() -> None:
    """Make the kernel interrupt this process when its parent exits, so that no orphan outlives a killed runner."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


LONGEST_ORPHAN = 2.0
"""Time after its parent's death until a node that does not end is killed, s."""

_GUARD = 'read -r _; sleep "$1"; kill -9 "-$0"'


def _guard(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Start a guard that kills a process group if this process has exited and the interrupt did not end the group.

    A node that is importing or blocked in a library does not react to an interrupt. The guard is a shell (1 MB); its
    standard input closes when this process ends, however that happens.
    """
    command = ["sh", "-c", _GUARD, str(process.pid), str(LONGEST_ORPHAN)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def follow_parent() -> None:
    """Have this process interrupted when the process named in `PARENT` exits, if that is its parent.

    `ros2 launch` leaves its processes running when it is killed or terminated, which would leave an arm unsupervised.
    """
    named = os.environ.get(PARENT, "")
    if named and named == str(os.getppid()):
        _end_with_parent()
        if named != str(os.getppid()):  # the parent has exited in between
            os.kill(os.getpid(), signal.SIGINT)


class NodeProcess:
    """Starts `python -m vla_ros.nodes.<executable>`, and ends exactly that by its process group."""

    def __init__(
        self, description: NodeDescription | ProcessDescription, environment: Mapping[str, str], folder: Path
    ) -> None:
        """Start the process; `folder` gets its parameter file `<name>.yaml` and its log `<name>.log`.

        Args:
            description: The process, or its only node.
            environment: Complete environment of the process.
            folder: Folder it may write to.
        """
        if isinstance(description, NodeDescription):
            description = ProcessDescription(description.name, (description,))
        self.description = description
        self.log_path = folder / f"{description.name}.log"
        parameters = folder / f"{description.name}.yaml"
        parameters.write_text(description.parameter_file(), encoding="utf-8")
        module = module_of(description.executable)
        command = [
            *description.prefix,
            sys.executable,
            "-m",
            module,
            *description.arguments(),
            "--ros-args",
            *(word for rule in description.rules() for word in ("-r", rule)),
            "--params-file",
            str(parameters),
            "--disable-external-lib-logs",
        ]
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        self._guarding = _guard(self._process)
        self.log_path.write_bytes(b"")
        self._written = 0
        self._reader = threading.Thread(target=self._copy_log, name=f"log of {description.name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its group."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        status = self._process.poll()
        if status is not None:
            self._release_guard()
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children; no effect once it has ended."""
        if self.exit_code() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` s for its end; return False if it is still running."""
        try:
            self._process.wait(timeout=max(timeout, 0.0))
        except subprocess.TimeoutExpired:
            return False
        self._release_guard()
        self._reader.join(timeout=1.0)
        return True

    def _release_guard(self) -> None:
        """End the guard: the process is gone, and its id may soon be reused."""
        if self._guarding.poll() is None:
            self._guarding.kill()
            self._guarding.wait()
        if self._guarding.stdin is not None:
            self._guarding.stdin.close()

    def end(self, deadline: float) -> int:
        """Interrupt it, then escalate to SIGTERM and SIGKILL; return the exit status.

        Args:
            deadline: Value of `time.monotonic()` until which an orderly end is awaited.
        """
        for number, grace in (
            (signal.SIGINT, deadline - time.monotonic()),
            (signal.SIGTERM, 1.0),
            (signal.SIGKILL, 5.0),
        ):
            self.signal(number)
            if self.wait(grace):
                break
        return self._process.wait()

    def last_lines(self, count: int = 12) -> str:
        """Return the end of its log, once no more output has arrived for a moment."""
        size = -1
        while size != (size := self._written):
            time.sleep(_LOG_PAUSE)
        try:
            return "\n".join(self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
        except OSError as error:
            return f"(no log: {error})"

    def reason(self) -> str:
        """Return the logged reason why it refused its last transition; "" if there is none."""
        for line in reversed(self.last_lines(count=50).splitlines()):
            for refusal in REFUSALS:
                if refusal in line:
                    return line[line.index(refusal) :]
        return ""

    def _copy_log(self) -> None:
        """Copy the output of the process to its log, keeping the file below `LOG_BYTES`."""
        stream = self._process.stdout
        if stream is None:
            return
        size = 0
        log: IO[bytes] | None = None
        while line := stream.readline(65536):
            # A full disk costs log lines; an undrained pipe would block the node.
            with contextlib.suppress(OSError):
                if log is None or size + len(line) > LOG_BYTES:
                    full, log = log, None  # closed by `_next_file`, even if that opens no new file
                    log, size = self._next_file(full), 0
                log.write(line)
                log.flush()
                size += len(line)
            self._written += len(line)
        stream.close()
        if log is not None:
            with contextlib.suppress(OSError):
                log.close()

    def _next_file(self, full: IO[bytes] | None) -> IO[bytes]:
        if full is not None:
            with contextlib.suppress(OSError):  # a file that cannot be renamed is overwritten
                full.close()
                self.log_path.replace(self.log_path.with_suffix(".log.1"))
        return self.log_path.open("wb")
