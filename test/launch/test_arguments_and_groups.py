"""What the launch files make of their arguments, of the group that they are included in, and of an end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("launch_ros.actions", reason="ROS 2's launch is not installed here")

from vla_ros.bringup import launch_actions
from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.ros.dds.profile import LOOPBACK_PROFILE, PROFILE_VARIABLE, RANGE_VARIABLE, profile_for
from vla_ros.ros.graph.description import load_graph
from vla_ros.ros.transitions import GraphError

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path, not from their folder
from descriptions import FILES, ROOT, Ended, actions_of, load, parameters_of

CLAMPED = {
    "preflight",
    "headless",
    "rviz",
    "use_sim_time",
    "lockstep",
    "arm",
    "log_level",
    "simulation",
    "controllers",
    "world",
    "command_clock",
    "tf",
    "processes",
}
"""Arguments that have a small set of values, but for Gazebo's `world`, a file."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_argument_with_few_values_names_them(path: Path) -> None:
    for action in load(path).generate_launch_description().entities:
        if type(action).__name__ == "DeclareLaunchArgument" and action.name in CLAMPED:
            file = (path.name, action.name) == ("simulation_gazebo.launch.py", "world")
            assert bool(action.choices) is not file, action.name


@pytest.mark.parametrize("word", ["true", "yes", "on", "1", "True", "false", "no", "off", "0"])
def test_the_preflight_runs_whenever_it_is_switched_on(word: str) -> None:
    actions, _ = actions_of(ROOT / "launch/bringup.launch.py", preflight=word)
    executables = [one.node_executable for one in actions if hasattr(one, "node_executable")]
    assert ("preflight" in executables) is (word.lower() in ("true", "yes", "on", "1"))


def shown(path: Path) -> dict[str, str]:
    """Return argument to default, as `--show-args` shows them."""
    from launch import LaunchContext

    context = LaunchContext()
    arguments = load(path).generate_launch_description().get_launch_arguments()
    return {one.name: "".join(part.perform(context) for part in one.default_value) for one in arguments}


def test_the_defaults_that_are_shown_are_those_that_hold() -> None:
    bringup, mujoco, gazebo = (
        shown(ROOT / f"launch/{name}.launch.py") for name in ("bringup", "simulation_mujoco", "simulation_gazebo")
    )
    assert (bringup["simulation"], bringup["use_sim_time"]) == ("none", "auto")
    assert "simulation" not in mujoco | gazebo
    assert mujoco["use_sim_time"] == "true"
    assert "use_sim_time" not in gazebo
    for simulation, simulated in (("none", False), ("mujoco", True)):
        actions, context = actions_of(ROOT / "launch/bringup.launch.py", simulation=simulation)
        assert parameters_of(actions, context, "safety_node")["use_sim_time"] is simulated


class Recorded:
    """Executes a description without starting a process, and keeps what would have been started, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from launch_ros.actions import LifecycleNode, Node

        self.nodes: list[Any] = []

        def execute(node: Any, context: Any) -> None:
            node._perform_substitutions(context)
            self.nodes.append(node)

        for kind in (Node, LifecycleNode):
            monkeypatch.setattr(kind, "execute", execute)
        monkeypatch.setattr(launch_actions, "find_duplicate_nodes", lambda context, names, *, own_clock: [])

    def visit(self, entities: list[Any], context: Any) -> None:
        for entity in entities:
            self.visit(entity.visit(context) or [], context)

    def named(self, name: str) -> Any:
        return next(node for node in self.nodes if node.node_name.rsplit("/", 1)[-1] == name)


@pytest.mark.parametrize("argument", ["", "left"])
def test_under_a_pushed_namespace_every_process_is_in_the_group(monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    """As it is composed in ROS 2; what an event starts, such as the preflight, is in the group too."""
    from launch.actions import GroupAction, IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch_ros.actions import PushRosNamespace, SetParameter, SetRemap

    from launch import LaunchContext

    order: list[Any] = []
    source = PythonLaunchDescriptionSource(str(ROOT / "launch/bringup.launch.py"))
    passed = {"simulation": "mujoco", "namespace": argument}.items()
    group = GroupAction(
        [
            PushRosNamespace("arm1"),
            SetRemap("/joint_states", "/driver/joint_states"),
            SetParameter("a_parameter", 3),
            IncludeLaunchDescription(source, launch_arguments=passed),
        ]
    )
    recorded, context = Recorded(monkeypatch), LaunchContext()
    inside = launch_actions.Group.inside
    monkeypatch.setattr(launch_actions.Group, "inside", lambda self, actions: order.append(inside(self, actions)) or [])
    recorded.visit([group], context)
    assert "ros_namespace" not in context.launch_configurations  # the group is left
    recorded.visit(order[0], context)  # what the event after the robot's activation starts
    assert "ros_namespace" not in context.launch_configurations
    namespace = "/arm1/left" if argument else "/arm1"
    assert {node.node_name.rsplit("/", 1)[0] for node in recorded.nodes} == {namespace}
    for name in ("safety_node", "preflight"):
        node = recorded.named(name)
        rules = [rule for rule in node.expanded_remapping_rules if rule[0] == "/joint_states"]
        assert rules[0] == ("/joint_states", "/driver/joint_states")  # the first one counts
        assert dict(node.expanded_remapping_rules)["/camera/front/image_raw"] == f"{namespace}/camera/front/image_raw"
        words = ["".join(getattr(part, "text", "") for part in word) for word in node.cmd]
        assert "a_parameter:=3" in words


@pytest.mark.parametrize("namespace", ["", "left"])
def test_a_parameter_file_reaches_every_node_and_the_preflight(tmp_path: Path, namespace: str) -> None:
    from launch_ros.utilities import evaluate_parameters

    file = tmp_path / "mine.yaml"
    file.write_text(f"{namespace}/perception_node: {{ros__parameters: {{skew_tolerance: 0.1}}}}", encoding="utf-8")
    actions, context = actions_of(ROOT / "launch/bringup.launch.py", params_file=str(file), namespace=namespace)
    nodes = [action for action in actions if hasattr(action, "node_executable")]
    assert "preflight" in [node.node_executable for node in nodes]
    for node in nodes:
        first, *others = evaluate_parameters(context, node._Node__parameters)
        assert first == file
        assert [type(one) for one in others] == [dict]  # what the arguments say comes last, and holds


@pytest.mark.parametrize("file", ["bringup", "simulation_gazebo"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("safety_node: {ros__parameters: {selftest_max_age: 60.0}}", "write '/left/safety_node'"),
        ("preflight: {ros__parameters: {timeout: 20.0}}", "write '/left/preflight'"),
        ("/left/preflight: {ros__parameters: {robot: fr3}}", "robot of preflight is 'fr3', an argument"),
        ("/**/safty_node: {ros__parameters: {selftest_max_age: 60.0}}", "names no node of this launch"),
    ],
)
def test_a_section_that_reaches_no_node_ends_the_launch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, text: str, says: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    module = load(ROOT / f"launch/{file}.launch.py")
    monkeypatch.setattr(module, "require", lambda packages: None, raising=False)
    monkeypatch.setattr(sys.modules[actions_of.__module__], "load", lambda path: module)
    with pytest.raises(ContractError, match=says):
        actions_of(ROOT / f"launch/{file}.launch.py", params_file=str(path), namespace="left")


@pytest.mark.parametrize("namespace", ["", "left"])
def test_nodes_that_share_a_process_are_started_by_one_action(namespace: str) -> None:
    from launch_ros.actions import LifecycleNode, Node
    from launch_ros.utilities import evaluate_parameters

    actions, context = actions_of(ROOT / "launch/bringup.launch.py", processes="shared", namespace=namespace)
    names = ["perception_node", "instruction_node", "policy_node", "action_node"]
    (container,) = [one for one in actions if getattr(one, "node_executable", "") == "node_container"]
    assert type(container) is Node
    container._perform_substitutions(context)
    words = ["".join(getattr(part, "text", "") for part in word) for word in container.cmd]
    assert words[1:6] == [*names, "--ros-args"]
    assert [word for word in words if "__node" in word] == [f"{name}:__node:={name}" for name in names]
    (file,) = evaluate_parameters(context, container._Node__parameters)
    sections = yaml.safe_load(file.read_text(encoding="utf-8"))
    before = f"/{namespace}/" if namespace else ""
    assert list(sections) == sorted(before + name for name in names)
    assert sections[f"{before}perception_node"]["ros__parameters"]["robot"] == "panda"
    assert "robot" not in sections[f"{before}action_node"]["ros__parameters"]
    own = [one for one in actions if isinstance(one, LifecycleNode)]
    started = [one for one in own if type(one) is LifecycleNode]
    assert [one.node_executable for one in own] == [one.name for one in load_graph().resolve(simulation="")]
    assert [one.node_executable for one in started] == ["safety_node"]


@pytest.mark.parametrize("discovery", ["SUBNET", "LOCALHOST"])
@pytest.mark.parametrize("processes", ["separate", "shared"])
def test_processes_have_the_shared_memory_of_the_images_they_handle(
    monkeypatch: pytest.MonkeyPatch, processes: str, discovery: str
) -> None:
    monkeypatch.delenv(PROFILE_VARIABLE, raising=False)
    monkeypatch.setenv(RANGE_VARIABLE, discovery)
    actions, context = actions_of(ROOT / "launch/bringup.launch.py", simulation="mujoco", processes=processes)
    found = {}
    for action in actions:
        added = {
            "".join(part.perform(context) for part in name): "".join(part.perform(context) for part in value)
            for name, value in getattr(action, "additional_env", None) or []
        }
        if PROFILE_VARIABLE in added:
            found[action.node_executable] = (added[PROFILE_VARIABLE], added.get(RANGE_VARIABLE, discovery))
    images = {"sim_node", "perception_node", "node_container"}
    assert {"sim_node", "safety_node"} <= set(found)
    alone = (str(share_file(LOOPBACK_PROFILE)), "SYSTEM_DEFAULT")
    without = alone if discovery == "LOCALHOST" else (profile_for(0.0, shared_memory=False), discovery)
    for name, one in found.items():
        if name in images:
            assert one == (profile_for(1.0), discovery)
        elif name == "policy_node":
            assert one == (profile_for(0.0), discovery)
        else:
            assert one == without, name


def test_what_a_shared_process_says_is_held_against_the_node_that_says_it() -> None:
    from launch import LaunchContext

    module = load(ROOT / "launch/bringup.launch.py")
    arm = module.Arm(load_contract("panda"), "left")
    nodes = load_graph().resolve({"processes": "shared"}, simulation="")
    actions, hosts = module.processes(nodes, arm, "info", None)
    order = module.LifecycleOrder(actions, 0, arm, hosts)
    names = [one.name for one in nodes]
    for action in actions:
        action._perform_substitutions(LaunchContext())

    class Line:
        text = b"[ERROR] [1.0] [left.action_node]: cannot configure: ContractError: why\n"

    for index, host in enumerate(hosts):
        if host is hosts[names.index("action_node")]:
            order._listener(index)(Line())
    assert {name: words for name, words in zip(names, order.last_words, strict=True) if words} == {
        "action_node": "cannot configure: ContractError: why"
    }


def test_a_recorder_that_failed_ends_the_launch_with_an_error() -> None:
    from launch import LaunchContext

    (recorder,), context = actions_of(ROOT / "launch/record.launch.py", out="/tmp/bag")
    ended = recorder._ExecuteLocal__on_exit
    with pytest.raises(GraphError, match=r"the recorder failed \(exit code 2\)"):
        ended(Ended(2), context)
    assert [type(action).__name__ for action in ended(Ended(0), context)] == ["Shutdown"]
    ending = LaunchContext()
    ending._set_is_shutdown(True)
    assert ended(Ended(-2), ending) == []


def test_what_an_operator_configures_an_operator_activates() -> None:
    module = load(ROOT / "launch/bringup.launch.py")
    order = module.LifecycleOrder(["a", "b"], 0, module.Arm(load_contract("panda"), ""))
    order._ask = lambda index, transition: (index, transition)
    order.ready(None)
    for step in (order._after_start, order._after_configuring, order._after_activating):
        for index in (0, 1):
            answer = step(None, index)
    assert order.is_up
    assert "publish a sentence on /vla/instruction" in "".join(part.text for part in answer[0].msg)
    assert order._after_configuring(None, 1) == []
    assert order._after_failing(None, 1) == []
    order._arm = type("Arm", (), {"disarm": lambda self, context: None})()
    order._after_start(None, 1)  # it died, and is started again
    assert order._after_configuring(None, 1) == [(1, 3)]
    assert order._after_failing(None, 1) != []
    order._after_activating(None, 1)
    assert order._after_configuring(None, 1) == []


def test_the_launch_gives_ros_no_arguments_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from launch import LaunchContext

    given: list[Any] = []

    class SeenError(Exception):
        pass

    def init(**options: Any) -> None:
        given.append(options["args"])
        raise SeenError

    monkeypatch.setattr(launch_actions.rclpy, "init", init)
    with pytest.raises(SeenError):
        launch_actions.find_duplicate_nodes(LaunchContext(), ["/a_name_of_nobody"])
    assert given == [[]]


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize(
    ("given", "published"),
    [
        ({"simulation": "mujoco"}, True),
        ({}, False),
        ({"tf": "any"}, True),
        ({"tf": "none", "simulation": "mujoco"}, False),
    ],
)
def test_the_transform_tree_has_one_publisher(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], published: bool, installed: bool
) -> None:
    module = load(ROOT / "launch/bringup.launch.py")
    monkeypatch.setattr(launch_actions, "is_installed", lambda package: installed)
    monkeypatch.setattr(module, "is_installed", lambda package: installed)
    monkeypatch.setattr(sys.modules[actions_of.__module__], "load", lambda path: module)
    actions, context = actions_of(ROOT / "launch/bringup.launch.py", **given)
    executables = [one.node_executable for one in actions if hasattr(one, "node_executable")]
    beside, own = executables.count("robot_state_publisher"), executables.count("transform_node")
    if "sim_node" in executables:
        own += parameters_of(actions, context, "sim_node")["tf"] == "own"
    expected = (int(installed), int(not installed)) if published else (0, 0)
    assert (beside, own) == expected
