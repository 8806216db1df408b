"""The description of the graph: the shipped one fits the code, and a wrong one is refused with its line named."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.ros.graph.description import load_graph

SHIPPED = yaml.safe_load(share_file("config/graph.yaml").read_text(encoding="utf-8"))


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_every_node_of_the_shipped_graph_is_a_module() -> None:
    for node in load_graph().nodes:
        assert find_spec(node.module) is not None, f"{node.module} does not exist"


def test_the_safety_node_never_starts_again_by_itself_and_its_end_ends_the_graph() -> None:
    safety = next(node for node in load_graph().nodes if node.executable == "safety_node")
    assert safety.required
    assert safety.restarts == 0


def test_arguments_reach_the_parameters_with_the_type_of_their_default() -> None:
    nodes = {n.name: n for n in load_graph().resolve({"seed": "7", "lockstep": "True", "real_time_factor": "0.5"})}
    parameters = nodes["sim_node"].parameters
    assert parameters["seed"] == 7
    assert parameters["lockstep"] is True
    assert parameters["real_time_factor"] == 0.5
    assert nodes["safety_node"].parameters["lockstep"] is True
    assert nodes["policy_node"].parameters["robot"] == "panda"


def test_without_the_cell_its_node_is_left_out() -> None:
    names = [node.name for node in load_graph().resolve(simulation=False)]
    assert "sim_node" not in names
    assert {"perception_node", "instruction_node", "safety_node", "policy_node"} <= set(names)


def test_nothing_is_started_for_an_external_simulator(tmp_path: Path) -> None:
    names = {node.name for node in load_graph().resolve(simulation="external")}
    assert not names & {"sim_node", "scene_node"}
    assert {"perception_node", "instruction_node", "safety_node", "policy_node"} <= names
    described = load_graph(written(tmp_path, {**SHIPPED, "simulation": "external"}))
    assert {node.name for node in described.resolve()} == names
    assert "sim_node" in {node.name for node in described.resolve(simulation="mujoco")}
    assert described.simulator(False) == "" and described.without("policy_node").simulator() == "external"


def test_a_description_without_the_line_is_that_of_mujoco(tmp_path: Path) -> None:
    old = {key: value for key, value in SHIPPED.items() if key != "simulation"}
    assert "sim_node" in {node.name for node in load_graph(written(tmp_path, old)).resolve()}


def test_the_parameter_file_is_read_back_as_it_was() -> None:
    for node in load_graph().resolve({"instruction": "pick up the red cube: now, 'please'"}):
        assert yaml.safe_load(node.parameter_file()) == {node.name: {"ros__parameters": dict(node.parameters)}}


def test_a_node_publishes_images_unless_it_is_said_that_it_does_not(tmp_path: Path) -> None:
    old = {**SHIPPED, "nodes": [{key: node[key] for key in node if key != "images"} for node in SHIPPED["nodes"]]}
    assert all(node.images for node in load_graph(written(tmp_path, old)).nodes)
    assert not next(node for node in load_graph().nodes if node.name == "safety_node").images
    wrong = {**SHIPPED, "nodes": [{**SHIPPED["nodes"][0], "images": "few"}]}
    with pytest.raises(ContractError, match="images is 'few', expected true or false"):
        load_graph(written(tmp_path, wrong))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sead": 7}, "sead"),
        ({"seed": "seven"}, "expected an int"),
        ({"seed": 7.5}, "expected an int"),
        ({"seed": True}, "expected an int"),
        ({"lockstep": "maybe"}, "expected a bool"),
        ({"lockstep": 1}, "expected a bool"),
        ({"real_time_factor": "fast"}, "expected a float"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence):
        load_graph().resolve(arguments)


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", True), ("1", True), ("on", True), ("True", True), ("no", False), ("0", False), ("off", False)],
)
def test_every_way_to_write_true_or_false_is_read(text: str, value: bool) -> None:
    nodes = {node.name: node for node in load_graph().resolve({"lockstep": text})}
    assert nodes["safety_node"].parameters["lockstep"] is value


def without(line: str) -> dict[str, object]:
    return {key: value for key, value in SHIPPED["nodes"][0].items() if key != line}


WRONG = {
    "missing line": ({**SHIPPED, "nodes": [without("restarts")]}, "restarts"),
    "unknown line": ({**SHIPPED, "nodes": [{**SHIPPED["nodes"][0], "colour": "red"}]}, "colour"),
    "same name twice": ({**SHIPPED, "nodes": [SHIPPED["nodes"][0], SHIPPED["nodes"][0]]}, "stands twice"),
    "argument without a definition": ({"arguments": {}, "nodes": SHIPPED["nodes"]}, "no argument 'instruction'"),
    "unknown simulator": ({**SHIPPED, "simulation": "matrix"}, "graph.yaml: simulation is 'matrix', expected one of"),
    "no nodes": ({"arguments": {}}, "expected the lines"),
    "a list": ([1, 2], "expected the lines"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_description_is_refused(tmp_path: Path, case: str) -> None:
    content, sentence = WRONG[case]
    with pytest.raises(ContractError, match=sentence):
        load_graph(written(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no graph description"):
        load_graph(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("simulation", "given", "clock"),
    [
        ("mujoco", {}, "system"),
        ("mujoco", {"real_time_factor": 0.5}, "auto"),
        ("mujoco", {"command_clock": "arrival"}, "arrival"),
        ("gazebo", {}, "auto"),
        ("external", {}, "auto"),
        ("", {"use_sim_time": False}, "auto"),
    ],
)
def test_commands_carry_times_of_the_clock_that_their_controllers_have(simulation, given, clock):
    nodes = {node.name: node for node in load_graph().resolve(given, simulation=simulation)}
    assert nodes["safety_node"].parameters["command_clock"] == clock


@pytest.mark.parametrize(
    ("simulation", "tf", "in_the_simulator", "by_a_node"),
    [
        ("mujoco", "auto", "own", False),
        ("mujoco", "any", "own", False),
        ("mujoco", "none", "none", False),
        ("mujoco", "robot_state_publisher", "robot_state_publisher", False),
        ("gazebo", "auto", None, False),
        ("gazebo", "own", None, False),
        ("external", "auto", None, False),
        ("external", "own", None, True),
        ("", "auto", None, False),
        ("", "own", None, True),
        ("", "any", None, True),
        ("", "none", None, False),
        ("", "robot_state_publisher", None, False),
    ],
)
def test_the_transform_tree_has_one_publisher(simulation, tf, in_the_simulator, by_a_node):
    nodes = {node.name: node for node in load_graph().resolve({"tf": tf}, simulation=simulation)}
    assert (nodes["sim_node"].parameters["tf"] if "sim_node" in nodes else None) == in_the_simulator
    assert ("transform_node" in nodes) is by_a_node


def test_a_wrong_publisher_of_transforms_is_refused():
    with pytest.raises(ContractError, match="argument tf: got 'both', expected auto, any or one of"):
        load_graph().resolve({"tf": "both"})


def test_a_condition_on_an_argument_that_is_not_there_is_refused(tmp_path):
    node = {**SHIPPED["nodes"][-1], "when": {"colour": "red"}}
    with pytest.raises(ContractError, match=r"when names \['colour'\]"):
        load_graph(written(tmp_path, {**SHIPPED, "nodes": [node]}))
