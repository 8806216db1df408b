"""Parameter files of the launch: what no argument sets, for nodes that are there; anything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vla_ros.errors import ContractError
from vla_ros.ros.graph.description import load_graph
from vla_ros.ros.parameter_files import parameters_file

ALL = [node.name for node in load_graph().nodes]


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def robot_nodes() -> Mapping[str, Mapping[str, Any]]:
    nodes = load_graph().resolve({"use_sim_time": False}, simulation="")
    return {node.name: node.parameters for node in nodes} | {"preflight": {"robot": "panda"}}


@pytest.mark.parametrize(
    ("namespace", "text"),
    [
        ("", "safety_node: {ros__parameters: {selftest_max_age: 60.0}}"),
        ("", "/safety_node: {ros__parameters: {selftest_max_age: 60.0}}"),
        ("", "preflight: {ros__parameters: {timeout: 20.0}}"),
        ("", "sim_node: {ros__parameters: {tf: own}}"),  # of the same graph, with a simulator
        ("left", "/left/perception_node: {ros__parameters: {skew_tolerance: 0.1}}"),
        ("left", "left: {perception_node: {ros__parameters: {skew_tolerance: 0.1}}}"),
        ("left", "/**/perception_node: {ros__parameters: {skew_tolerance: 0.1}}"),
        ("left", "/**: {ros__parameters: {use_sim_time: false}}"),
        ("left", "/left/sim_node: {ros__parameters: {tf: own}}"),
        ("arm/left", "/arm/*/perception_node: {ros__parameters: {skew_tolerance: 0.1}}"),
    ],
)
def test_a_parameter_file_sets_what_no_argument_sets(tmp_path: Path, namespace: str, text: str) -> None:
    path = written(tmp_path, text)
    assert parameters_file(path, robot_nodes(), namespace, ALL) == Path(path)


@pytest.mark.parametrize(
    ("namespace", "text"),
    [
        ("", "safety_node: {ros__parameters: {arm_on_activate: true}}"),
        ("", "/**: {ros__parameters: {arm_on_activate: true}}"),
        ("left", "/*/safety_node: {ros__parameters: {arm_on_activate: true}}"),
        ("left", "left: {safety_node: {ros__parameters: {arm_on_activate: true}}}"),
        ("left", "left: {'**': {ros__parameters: {arm_on_activate: true}}}"),
        ("", "policy_node: {ros__parameters: {policy: other}}"),
        ("", "safety_node: {ros__parameters: {use_sim_time: true}}"),
        ("", "preflight: {ros__parameters: {robot: fr3}}"),
    ],
)
def test_a_parameter_file_contradicts_no_argument(tmp_path: Path, namespace: str, text: str) -> None:
    with pytest.raises(ContractError, match="an argument of the launch makes it"):
        parameters_file(written(tmp_path, text), robot_nodes(), namespace, ALL)


@pytest.mark.parametrize(
    ("namespace", "text", "says"),
    [
        (
            "left",
            "safety_node",
            "section 'safety_node' reaches no node, those of this launch are in the namespace "
            "/left: write '/left/safety_node', or '/\\*\\*/safety_node' for any namespace",
        ),
        ("left", "/right/safety_node", "write '/left/safety_node'"),
        ("left", "preflight", "write '/left/preflight'"),
        ("left", "sim_node", "write '/left/sim_node'"),
        ("left", "/*", "section '/\\*' reaches no node, .*: write '/left/\\*'$"),
        ("arm/left", "left: {safety_node", "section 'left/safety_node' .* write '/arm/left/safety_node'"),
        ("", "/left/safety_node", "those of this launch are in no namespace: write '/safety_node'"),
        ("", "/*/safety_node", "write '/safety_node'"),
        ("", "safty_node", "section 'safty_node' names no node of this launch, expected one of .*'safety_node'"),
        ("left", "/left/robot_state_publisher", "names no node of this launch"),
    ],
)
def test_a_section_that_reaches_no_node_is_refused(tmp_path: Path, namespace: str, text: str, says: str) -> None:
    text = f"{text}: {{ros__parameters: {{a_parameter: 1}}}}" + "}" * text.count("{")
    with pytest.raises(ContractError, match=says):
        parameters_file(written(tmp_path, text), robot_nodes(), namespace, ALL)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]", "expected sections"),
        ("safety_node: {estop_timeout: 1.0}", "ros__parameters"),
        ("a: [", "params_file"),
        ("safety_node: {ros__parameters: 3}", "ros__parameters"),
    ],
)
def test_what_is_no_parameter_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        parameters_file(written(tmp_path, text), robot_nodes())


def test_a_parameter_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ContractError, match=r"params_file.*none\.yaml"):
        parameters_file("/nowhere/none.yaml", {})
    assert parameters_file("", {}) is None
