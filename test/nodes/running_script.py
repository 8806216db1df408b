"""A script of this folder that runs managed nodes, in a process of its own, and somebody who talks to them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from vla_ros.bringup.runner import RosLink, graph_environment
from vla_ros.ros.transitions import ACTIVATE, CONFIGURE, LifecycleClient


class RunningScript:
    """The process from its start to the end of the `with` block, which it does not outlive."""

    def __init__(self, script: Path, domain: int, deadline: float, *, words: Sequence[str] = (), log: Path) -> None:
        """Start it; what it says goes to the file `log`, and `deadline` s are waited for anything that it is to do."""
        self.link, self.log, self._deadline = RosLink("somebody", domain), log, deadline
        self.lifecycle = LifecycleClient(self.link.node)
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *words],
                env=graph_environment(domain, os.environ),
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> RunningScript:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(self._deadline)
        self.link.close()

    def bring_up(self, *names: str) -> None:
        """Configure and activate its nodes, one after the other."""
        for name in names:
            for transition in (CONFIGURE, ACTIVATE):
                self.lifecycle.change(name, transition, self._deadline, lambda: self.process.poll() is None)

    def said(self) -> str:
        """Return what it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")
