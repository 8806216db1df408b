"""Faults of processes: crashed, stopped, hanging or disconnected."""

from __future__ import annotations

import signal
import time
from typing import Any

from lifecycle_msgs.msg import Transition

from vla_ros.nodes.policy_node import STALE_AFTER
from vla_ros.ros.heartbeat import HEARTBEAT_PERIOD
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety_bench.graph.faults.fault import GraphFault
from vla_ros.safety_bench.graph.scenario import Scenario
from vla_ros.safety_bench.graph.stage import READY_LIMIT

POLICY = "policy killed, stopped, deadlocked, at fault, too slow"
PARTITION = "partition, restart, death of the filter"

SCENE = 1
"""Seed of the scene that a restarted simulator begins with."""

SHADE = 0.5
"""Fraction of the time for which a slowed simulator is stopped."""

SETTLING = 0.5
"""Settling time of the arm after its controller holds, s."""

SLICE = 0.02
"""Period of stopping and continuing a slowed simulator, s."""


def process_faults(parameters: SafetyParameters, command_timeout: float) -> list[GraphFault]:
    """Return the faults of this module; the timeouts are those of `parameters` and of the controller, s."""
    timing = parameters.timing
    silent: dict[str, Any] = {"state": "HOLD", "reasons": ("policy_silent",), "timeout": timing.policy_timeout}
    blind: dict[str, Any] = {
        "state": "HOLD",
        "reasons": ("policy_waiting",),
        "timeout": STALE_AFTER + timing.policy_timeout,
        "notice": (HEARTBEAT_PERIOD, "the heartbeat that says so"),
    }
    still: dict[str, Any] = {"state": "HOLD", "reasons": ("state_stale",), "timeout": timing.state_timeout}
    mute: dict[str, Any] = {
        "state": "HOLD",
        "reasons": ("instruction_silent",),
        "timeout": timing.instruction_timeout,
    }
    free: dict[str, Any] = {"state": "RUN", "timeout": None}
    return [
        *_killed("policy_node", POLICY, silent),
        *_killed("perception_node", PARTITION, blind),
        *_killed("instruction_node", PARTITION, mute),
        GraphFault(
            "SIGSTOP of the simulator",
            PARTITION,
            lambda s: s.kill("sim_node", signal.SIGSTOP),
            Scenario.take_away,
            **still,
        ),
        GraphFault(
            "kill -9 of the simulator",
            PARTITION,
            lambda s: s.kill("sim_node"),
            _revive_simulator,
            rearm=True,
            note="started again, with a task of its new scene",
            **still,
        ),
        GraphFault(
            "kill -9 of the safety node",
            PARTITION,
            lambda s: s.kill("safety_node"),
            _revive_safety,
            rearm=True,
            state="",
            timeout=None,
            rest_within=command_timeout + SETTLING,
            note="the controller's time-out holds the arm",
        ),
        GraphFault(
            "SIGSTOP of the safety node",
            PARTITION,
            lambda s: s.kill("safety_node", signal.SIGSTOP),
            _go_on_after_a_second,
            state="HOLD",
            reasons=("ticks_missed", "state_stale", "policy_silent", "chunk_stale", "tick_overrun"),
            timeout=None,
            note="judged after it goes on",
        ),
        GraphFault(
            "the cable to the policy is pulled",
            PARTITION,
            _pull,
            Scenario.take_away,
            setup="cabled",
            note="the policy in a network namespace of its own, joined by a virtual cable that is taken down",
            **silent,
        ),
        GraphFault(
            "the solver hangs for 0.6 s",
            "solver infeasible, NaN, hanging",
            lambda s: s.kill("safety_node", signal.SIGUSR1),
            setup="hanging",
            state="SLOW",
            reasons=("tick_overrun",),
            timeout=timing.period + timing.tick_budget,
            note="the braking rows are sent by the watch",
        ),
        GraphFault(
            "the simulation stands still", "clock jumps; simulation paused, rate changed", _pause, _go_on, **still
        ),
        GraphFault(
            "the simulation runs at half its rate",
            "clock jumps; simulation paused, rate changed",
            _half_rate,
            Scenario.take_away,
            note="the simulator is stopped for 10 ms of every 20 ms",
            **free,
        ),
    ]


def _killed(node: str, row: str, more: dict[str, Any]) -> list[GraphFault]:
    return [
        GraphFault(f"SIGSTOP of the {node}", row, lambda s: s.kill(node, signal.SIGSTOP), Scenario.take_away, **more),
        GraphFault(f"kill -9 of the {node}", row, lambda s: s.kill(node), Scenario.take_away, **more),
    ]


def _revive_simulator(scenario: Scenario) -> None:
    scenario.graph.revive("sim_node")
    scenario.prepare(SCENE)  # it restarts with another scene, which may lack the object of the previous task


def _revive_safety(scenario: Scenario) -> None:
    scenario.graph.revive("safety_node")


def _go_on_after_a_second(scenario: Scenario) -> None:
    time.sleep(0.5)
    scenario.take_away()


def _pull(scenario: Scenario) -> float:
    cable = scenario.cable
    if cable is None:
        raise RuntimeError("this graph has no cable")
    scenario.later(lambda: cable.pull(False))
    at = time.monotonic()
    cable.pull(True)
    return at


def _pause(scenario: Scenario) -> float:
    """Pause simulation time; it stands still from the last joint state on."""
    scenario.lifecycle.change("sim_node", Transition.TRANSITION_DEACTIVATE, READY_LIMIT)
    return scenario.recorder.measured_at


def _go_on(scenario: Scenario) -> None:
    scenario.lifecycle.change("sim_node", Transition.TRANSITION_ACTIVATE, READY_LIMIT)


def _half_rate(scenario: Scenario) -> float:
    def shade() -> None:
        scenario.signal("sim_node", signal.SIGSTOP)
        time.sleep(SHADE * SLICE)
        scenario.signal("sim_node", signal.SIGCONT)

    return scenario.repeatedly(shade, (1.0 - SHADE) * SLICE)
