"""The cases at the edges in the graph: what they are, and how their rows are summed up."""

from __future__ import annotations

import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety_bench.edges import IN_GRAPH, LINES
from vla_ros.safety_bench.graph.edges import graph_edges, summarize_edges
from vla_ros.safety_bench.graph.suite import graph_faults


@pytest.fixture(scope="module")
def edges():
    return graph_edges(load_contract("panda"))


def test_edges_have_known_lines_and_names_of_their_own(edges):
    faults = graph_faults(load_contract("panda"), load_parameters())
    names = [edge.fault.name for edge in edges]
    assert len(set(names)) == len(names)
    assert not set(names) & {fault.name for fault in faults}
    assert {edge.line for edge in edges} <= set(LINES)
    assert {1, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 18} <= {edge.line for edge in edges}


def test_rows_of_one_case_add_up(edges):
    name = edges[0].fault.name
    row = {"name": name, "tried": True, "stopped": True, "violations": 0, "by_kind": {}, "sentence": "braked"}
    missed = row | {"stopped": False, "violations": 2, "by_kind": {"joint_jerk": 2}, "sentence": "2 violations"}
    untried = row | {"tried": False, "stopped": False, "sentence": "needs root"}
    (one,) = summarize_edges(edges, [row, row, missed])
    assert (one.where, one.tried, one.passed, one.violations, one.by_kind) == (IN_GRAPH, 3, 2, 2, {"joint_jerk": 2})
    assert one.sentence == "2 violations"
    (none,) = summarize_edges(edges, [untried])
    assert (none.tried, none.passed, none.sentence) == (0, 0, "needs root")


def test_losing_the_instruction_node_is_expected_to_hold(edges):
    parameters = load_parameters()
    faults = [*graph_faults(load_contract("panda"), parameters), *(edge.fault for edge in edges)]
    lost = [
        fault for fault in faults if "of the instruction_node" in fault.name or fault.name.startswith("the instruction")
    ]
    assert len(lost) == 3
    assert {(fault.state, fault.reasons) for fault in lost} == {("HOLD", ("instruction_silent",))}
    assert {fault.timeout + fault.notice[0] for fault in lost} == {parameters.timing.instruction_timeout}
