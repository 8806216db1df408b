"""The arguments of the launch files, and what the graph makes of them: nothing of it needs `launch`."""

from __future__ import annotations

import pytest

from vla_ros.bringup import launch_arguments
from vla_ros.bringup.launch_arguments import (
    GAZEBO,
    PREFLIGHT,
    LaunchArgument,
    graph_arguments,
    graph_texts,
    graph_values,
    transform_source,
)
from vla_ros.errors import ContractError
from vla_ros.ros.graph.description import FLAGS, Graph, load_graph, read_flag

DECLARED = [
    *(one for one in vars(launch_arguments).values() if isinstance(one, LaunchArgument)),
    *GAZEBO,
    *graph_arguments(),
]


def test_what_is_true_or_false_takes_every_way_to_write_that_and_no_other() -> None:
    flags = [one for one in DECLARED if one.default in ("true", "false") and one.name != "arm"]
    assert {"preflight", "use_sim_time", "headless", "rviz", "lockstep"} <= {one.name for one in flags}
    for one in flags:
        assert {choice.lower() for choice in one.choices} == set(FLAGS), one.name


def test_every_choice_of_a_flag_is_read() -> None:
    for choice in PREFLIGHT.choices:
        assert read_flag("preflight", choice) is (choice.lower() in ("true", "yes", "on", "1"))
    with pytest.raises(ContractError, match=r"argument preflight: got 'maybe', expected a bool"):
        read_flag("preflight", "maybe")


def test_arming_is_asked_for_in_one_way() -> None:
    arm = next(one for one in DECLARED if one.name == "arm")
    assert (arm.default, arm.choices) == ("false", ("true", "false"))


@pytest.mark.parametrize("one", DECLARED, ids=lambda one: one.name)
def test_the_default_is_among_the_choices(one: LaunchArgument) -> None:
    assert one.about
    assert not one.choices or one.default in one.choices


@pytest.mark.parametrize(
    ("given", "simulation", "expected"),
    [
        ("auto", "", "false"),
        ("auto", "mujoco", "true"),
        ("auto", "gazebo", "true"),
        ("yes", "", "yes"),
        ("false", "mujoco", "false"),
    ],
)
def test_simulated_time_goes_with_the_simulation_unless_it_is_given(given: str, simulation: str, expected: str) -> None:
    assert graph_values({"use_sim_time": given}, simulation)["use_sim_time"] == expected


@pytest.mark.parametrize(
    ("text", "simulation", "installed", "expected"),
    [
        ("auto", "mujoco", True, "robot_state_publisher"),
        ("auto", "mujoco", False, "own"),
        ("auto", "", True, "none"),
        ("auto", "", False, "none"),
        ("any", "", True, "robot_state_publisher"),
        ("any", "", False, "own"),
        ("own", "", True, "own"),
        ("own", "mujoco", True, "own"),
        ("none", "mujoco", True, "none"),
        ("robot_state_publisher", "", True, "robot_state_publisher"),
    ],
)
def test_one_publishes_the_transform_tree(text: str, simulation: str, installed: bool, expected: str) -> None:
    assert transform_source(text, simulation, installed=installed) == expected


def test_a_publisher_of_transforms_that_is_not_installed_is_named() -> None:
    with pytest.raises(ContractError, match=r"robot_state_publisher is not installed: sudo apt install .*tf:=own"):
        transform_source("robot_state_publisher", "mujoco", installed=False)


def test_an_argument_that_a_graph_of_one_s_own_does_not_take_is_refused() -> None:
    shipped = load_graph()
    older = {name: value for name, value in shipped.arguments.items() if name != "estop_timeout"}
    own = Graph({**older, "speed": 1.0}, shipped.nodes)
    assert graph_texts(own, {"estop_timeout": "0.0", "seed": "7"}) | {"seed": "7", "speed": "1.0"} == graph_texts(
        own, {"seed": "7"}
    )
    with pytest.raises(ContractError, match="argument estop_timeout: this graph does not take it"):
        graph_texts(own, {"estop_timeout": "0.25"})


def test_the_safety_layer_is_set_by_arguments() -> None:
    given = {"safety": "mine.yaml", "estop_timeout": "0.25"}
    safety = next(one for one in load_graph().resolve(given, simulation="") if one.name == "safety_node")
    assert safety.parameters["safety"] == "mine.yaml"
    assert safety.parameters["estop_timeout"] == 0.25
