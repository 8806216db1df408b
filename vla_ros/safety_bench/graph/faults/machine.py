"""Faults of the machine: no CPU time, no disk space, no reader for its logs."""

from __future__ import annotations

import os

from vla_ros.msg import Instruction
from vla_ros.ros.qos import qos
from vla_ros.safety_bench.graph.burner import Burner
from vla_ros.safety_bench.graph.faults.fault import GraphFault
from vla_ros.safety_bench.graph.faults.inputs import malformed_instruction
from vla_ros.safety_bench.graph.scenario import Scenario

MACHINE = "CPU at 100 %, executor starved, disk full, log flood"
LOG_LINES = 300
"""Rate of invalid messages, 1/s, each of which adds a log line."""


def machine_faults() -> list[GraphFault]:
    """Return the faults of this module. The arm may go on, slow down or hold; no command may exceed a limit."""
    return [
        GraphFault("every processor at 100 %", MACHINE, _burn, Scenario.take_away, state="", timeout=None),
        GraphFault("a flood of log lines", MACHINE, _flood, Scenario.take_away, state="", timeout=None),
        GraphFault(
            "a flood of log lines that nobody reads",
            MACHINE,
            _flood,
            Scenario.take_away,
            setup="unread",
            state="",
            timeout=None,
            note="the pipe of the safety node's log is full",
        ),
        GraphFault(
            "a flood of log lines on a full disk",
            MACHINE,
            _flood,
            Scenario.take_away,
            setup="full_disk",
            state="",
            timeout=None,
            note="the logs lie on a file system that has no room left",
        ),
    ]


def _burn(scenario: Scenario) -> float:
    burner = Burner(os.cpu_count() or 1)
    scenario.later(burner.close)
    return burner.began


def _flood(scenario: Scenario) -> float:
    publisher = scenario.unauthorized_publisher(Instruction, "/vla/task", qos("task"), "log_flood")
    return scenario.repeatedly(lambda: publisher.publish(malformed_instruction()), 1.0 / LOG_LINES)
