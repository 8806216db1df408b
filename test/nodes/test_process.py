"""One node as a process: whatever becomes of its log, it goes on."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from vla_ros.nodes import process as process_module
from vla_ros.nodes.graph import NodeDescription
from vla_ros.nodes.process import NodeProcess

DEADLINE = 60.0


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
