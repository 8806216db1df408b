"""Which nodes share a process: none unless it is asked for, and never the safety node or the simulator."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_ros.cli.commands import demo
from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.ros.graph.description import NodeDescription, load_graph
from vla_ros.ros.graph.processes import PROCESSES, processes_of

SHIPPED = yaml.safe_load(share_file("config/graph.yaml").read_text(encoding="utf-8"))
SHARING = ("perception_node", "instruction_node", "policy_node", "action_node")


def written(tmp_path: Path, **lines: dict[str, Any]) -> Path:
    """Write the shipped graph with other lines of some nodes, by name, and return its path."""
    nodes = [{**node, **lines.get(node["name"], {})} for node in SHIPPED["nodes"]]
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump({**SHIPPED, "nodes": nodes}, sort_keys=False), encoding="utf-8")
    return path


def node(name: str, executable: str = "", **others: Any) -> NodeDescription:
    fields: dict[str, Any] = {
        "simulation": "",
        "required": False,
        "restarts": 3,
        "configure_timeout": 1.0,
        "activate_timeout": 1.0,
        "parameters": {},
    }
    return NodeDescription(name, executable or name, **{**fields, **others})


@pytest.mark.parametrize("simulation", ["mujoco", "gazebo", ""])
def test_every_node_has_a_process_by_default(simulation: str) -> None:
    nodes = load_graph().resolve(simulation=simulation)
    processes = processes_of(nodes)
    assert [(one.name, one.nodes) for one in processes] == [(one.name, (one,)) for one in nodes]
    assert [one.executable for one in processes] == [one.executable for one in nodes]
    assert not any(one.arguments() for one in processes)


def test_the_shipped_graph_shares_one_process_when_asked() -> None:
    nodes = load_graph().resolve({"processes": "shared"})
    shared = [one for one in processes_of(nodes) if one.shared]
    assert [tuple(node.name for node in one.nodes) for one in shared] == [SHARING]
    (pipeline,) = shared
    assert (pipeline.executable, pipeline.arguments()) == ("node_container", list(SHARING))
    assert (pipeline.required, pipeline.restarts) == (False, 3)


@pytest.mark.parametrize("alone", ["safety_node", "sim_node"])
@pytest.mark.parametrize("inviting", [True, False])
def test_the_safety_node_and_the_simulator_share_with_nobody(tmp_path: Path, alone: str, inviting: bool) -> None:
    lines = {"perception_node": {"process": alone}} if inviting else {alone: {"process": "pipeline"}}
    with pytest.raises(
        ContractError, match=rf"{alone} \({alone}\) runs alone and cannot share it with perception_node"
    ):
        load_graph(written(tmp_path, **lines))


def test_a_renamed_safety_node_shares_with_nobody() -> None:
    company = [node("guard", "safety_node", process="one"), node("ears", "instruction_node", process="one")]
    with pytest.raises(ContractError, match=r"guard \(safety_node\) runs alone and cannot share it with ears"):
        processes_of(company)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ({"action_node": {"required": True}}, "expected one `required` and `restarts` for all of them"),
        ({"action_node": {"restarts": 1}}, "action_node False/1"),
        ({"action_node": {"executable": "instruction_node"}}, "instruction_node stands in it twice"),
        ({"action_node": {"process": "../log"}}, "process is '../log', expected a name of letters"),
        ({"action_node": {"process": 3}}, "process is 3, expected a name of letters"),
    ],
)
def test_nodes_that_cannot_share_are_refused(tmp_path: Path, lines: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        load_graph(written(tmp_path, **lines))


def test_a_layout_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ContractError, match="argument processes: got 'one', expected one of"):
        load_graph().resolve({"processes": "one"})


def test_the_demo_offers_every_layout() -> None:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    (option,) = [action for action in parser._actions if action.dest == "processes"]
    assert (option.choices, option.default) == (list(PROCESSES), load_graph().arguments["processes"])


def test_a_graph_without_the_argument_means_its_lines() -> None:
    shipped = load_graph()
    arguments = {name: value for name, value in shipped.arguments.items() if name != "processes"}
    assert any(one.shared for one in processes_of(replace(shipped, arguments=arguments).resolve()))


def test_a_node_left_without_company_runs_as_usual() -> None:
    (one,) = processes_of([node("ears", "instruction_node", process="pipeline", remappings={"/a": "/b"})])
    assert (one.name, one.executable, one.arguments()) == ("ears", "instruction_node", [])
    assert one.rules() == ["__node:=ears", "/a:=/b"]


def test_rules_and_parameters_hold_for_one_node_each() -> None:
    ears = node(
        "ears", "instruction_node", process="p", remappings={"/a": "/b", "__ns": "/x"}, parameters={"max_rate": 7.0}
    )
    (one,) = processes_of([ears, node("goals", "action_node", process="p", parameters={"use_sim_time": True})])
    assert one.rules() == [
        "instruction_node:__node:=ears",
        "action_node:__node:=goals",
        "ears:/a:=/b",
        "ears:__ns:=/x",
    ]
    for namespace, before in (("", ""), ("left", "/left/")):
        assert yaml.safe_load(one.parameter_file(namespace)) == {
            f"{before}ears": {"ros__parameters": {"max_rate": 7.0}},
            f"{before}goals": {"ros__parameters": {"use_sim_time": True}},
        }
