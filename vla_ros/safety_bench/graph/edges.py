"""Edge cases in the running graph: arming, stops, publishers, sizes; see `safety_bench/edges.py`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from vla_ros.msg import ActionChunk, Instruction, PolicyStatus
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.qos import qos
from vla_ros.safety_bench.edges import IN_GRAPH, EdgeRow
from vla_ros.safety_bench.graph import edge_plays as plays
from vla_ros.safety_bench.graph.faults.fault import GraphFault
from vla_ros.safety_bench.graph.faults.inputs import DISCOVERED, foreign_chunk
from vla_ros.safety_bench.graph.scenario import Scenario
from vla_ros.safety_bench.graph.setups import BUTTON_TIMEOUT

WATCHED = (1.0, "until the graph is looked at, and the middleware has noticed")
NODE_LOST = (0.5, "the time-out of the instruction node's heartbeat")


@dataclass(frozen=True)
class GraphEdge:
    """An edge case as a fault in the graph, with its line in the list of edge cases."""

    line: int
    fault: GraphFault


def graph_edges(contract: RobotContract) -> list[GraphEdge]:
    """Return all cases, grouped by the graph they need."""
    edges = [*_arming(contract), *_stopping(), *_unauthorized(contract), *_sizes()]
    # cases that may leave the node busy come last
    return sorted(edges, key=lambda edge: (edge.fault.setup != "plain", edge.fault.setup, edge.line == 14, edge.line))


def _edge(line: int, name: str, begin: Callable[[Scenario], float], **more: Any) -> GraphEdge:  # noqa: ANN401
    end = more.pop("end", Scenario.take_away)
    return GraphEdge(line, GraphFault(name, f"line {line}", begin, end, **more))


def _arming(contract: RobotContract) -> list[GraphEdge]:
    free: dict[str, Any] = {"state": "", "timeout": None, "rearm": True}
    held: dict[str, Any] = {"setup": "tampered", "rearm": True, "notice": (0.5, "until the model is left")}
    return [
        _edge(1, "disarmed in motion and armed at once", plays.arm_at_once, **free),
        _edge(2, "false joint states while arming", lambda s: plays.arm_among_false(s, contract), **free),
        _edge(4, "an arm measured away from its command", plays.away_and_back, setup="tampered", **free),
        _edge(6, "positions freeze with fresh stamps", lambda s: s.tampered(states="frozen"), **held),
        _edge(6, "two joints swapped", lambda s: s.tampered(states="swapped"), **held),
    ]


def _stopping() -> list[GraphEdge]:
    pressed: dict[str, Any] = {"state": "ESTOP", "rearm": True, "end": plays.release}
    arrival = (0.03, "the tick that is under way")
    return [
        _edge(7, "best-effort e-stop that joins in motion", plays.best_effort_estop, notice=DISCOVERED, **pressed),
        _edge(
            7, "best-effort stop that joins in motion", plays.best_effort_stop, notice=DISCOVERED, end=plays.task_again
        ),
        _edge(8, "false of another publisher while pressed", plays.false_while_pressed, notice=arrival, **pressed),
        _edge(9, "one true among a flood of false", plays.one_true, notice=arrival, **pressed),
        _edge(
            10,
            "kill -9 of one of two buttons",
            plays.kill_one_of_two,
            setup="button",
            timeout=BUTTON_TIMEOUT,
            notice=arrival,
            **{**pressed, "end": plays.reset},  # releasing would add a third button, silent from then on
        ),
        _edge(11, "lifecycle round trip with a latched e-stop", plays.round_trip, notice=arrival, **pressed),
        _edge(
            12,
            "an e-stop that is published once",
            plays.one_shot,
            state="ESTOP",
            notice=DISCOVERED,
            rearm=True,
            end=plays.reset,
        ),
        _edge(
            13,
            "stop while the instruction node is stopped",
            plays.stop_without_node,
            notice=(0.1, "the stop itself"),
            end=plays.task_again,
        ),
        _edge(
            13,
            "the instruction node is stopped",
            lambda s: s.kill("instruction_node", signal.SIGSTOP),
            notice=NODE_LOST,
            reasons=("instruction_silent",),
            end=plays.task_again,
        ),
        _edge(
            14,
            "the self-test is called in motion, then disarmed",
            plays.selftest_then_disarm,
            state="",
            timeout=None,
            rearm=True,
        ),
    ]


def _unauthorized(contract: RobotContract) -> list[GraphEdge]:
    held: dict[str, Any] = {"notice": WATCHED}
    arm = contract.controllers.arm_topic

    def named(
        kind: type, topic: str, profile: str, message: Callable[[Scenario], Any], name: str
    ) -> Callable[[Scenario], float]:
        def begin(scenario: Scenario) -> float:
            publisher = scenario.unauthorized_publisher(kind, topic, qos(profile), name)
            made = message(scenario)
            at = scenario.repeatedly(lambda: publisher.publish(made), 0.05)
            expected = topic if name in NODES else name
            plays.require(scenario, lambda: expected in scenario.observer.safety.sentence, f"'{expected}' is not named")
            return at

        return begin

    return [
        _edge(
            15,
            "chunks of a process called policy_node",
            named(ActionChunk, "/vla/action_chunk", "action_chunk", lambda s: foreign_chunk(s, 0.01), "policy_node"),
            **held,
        ),
        _edge(
            15,
            "commands of a process called safety_node",
            named(JointTrajectory, arm, "arm_command_out", plays.posture, "safety_node"),
            rearm=True,  # the commands may have moved the arm
            **held,
        ),
        _edge(
            15,
            "a task of another publisher",
            named(Instruction, "/vla/task", "task", lambda s: s.observer.instruction, "unauthorized"),
            **held,
        ),
        _edge(
            15,
            "a heartbeat of another publisher",
            named(PolicyStatus, "/vla/policy_status", "status", lambda s: s.observer.policy, "unauthorized"),
            **held,
        ),
        _edge(
            15,
            "joint states of another publisher",
            named(
                JointState,
                contract.controllers.joint_states_topic,
                "joint_states_out",
                plays.joint_state,
                "unauthorized",
            ),
            **held,
        ),
    ]


NODES = ("policy_node", "safety_node")
"""Names that the graph already uses; for these the topic must be named."""


def _sizes() -> list[GraphEdge]:
    return [
        _edge(18, "joint states with 200,000 names", plays.many_names, state="", timeout=None),
        _edge(18, "use_sim_time of the safety node is changed", plays.sim_time, state="RUN", timeout=None),
    ]


def summarize_edges(edges: Sequence[GraphEdge], rows: Sequence[Mapping[str, Any]]) -> list[EdgeRow]:
    """Return one row per case that was run, as `safety_bench/edges.py` does for cases in its own process."""
    lines = {edge.fault.name: edge.line for edge in edges}
    found: dict[str, EdgeRow] = {}
    for row in rows:
        one = found.setdefault(row["name"], EdgeRow(lines[row["name"]], row["name"], IN_GRAPH))
        one.tried += bool(row["tried"])
        one.passed += bool(row["tried"] and row["stopped"])
        one.violations += int(row["violations"])
        for kind, count in row["by_kind"].items():
            one.by_kind[kind] = one.by_kind.get(kind, 0) + count
        if not row["stopped"]:
            one.sentence = row["sentence"]
    return list(found.values())
