"""The launch files: what can be checked everywhere, and, where ROS 2's `launch` is installed, what they describe."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from vla_ros.bringup import launch_actions
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.ros.graph.description import load_graph
from vla_ros.ros.transitions import GraphError

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path, not from their folder
from descriptions import FILES, ROOT, Ended, actions_of, load, node_names, parameters_of

DEADLINE = 60.0  # s


def test_there_are_launch_files() -> None:
    assert {path.name for path in FILES} == {
        "bringup.launch.py",
        "record.launch.py",
        "simulation_gazebo.launch.py",
        "simulation_mujoco.launch.py",
        "view.launch.py",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_python_and_has_what_ros2_launch_calls(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    compile(source, str(path), "exec")
    assert "def generate_launch_description() -> LaunchDescription:" in source


def test_every_executable_of_the_graph_is_installed_with_the_files_that_it_needs() -> None:
    recipe = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    installed = re.search(r"foreach\(NODE ([^)]*)\)", recipe)
    assert installed is not None
    assert {node.executable for node in load_graph().nodes} <= set(installed.group(1).split())
    folders = re.search(r"foreach\(FOLDER ([^)]*)\)", recipe)
    assert folders is not None
    assert {"launch", "config", "rviz", "urdf", "worlds", "checkpoints"} <= set(folders.group(1).split())


def test_bringup_describes_the_nodes_of_the_graph_file() -> None:
    actions, context = actions_of(ROOT / "launch/bringup.launch.py", simulation="mujoco", seed="12", robot="panda")
    assert node_names(actions, context) == [node.name for node in load_graph().resolve(simulation="mujoco")]
    actions, context = actions_of(ROOT / "launch/bringup.launch.py")
    assert node_names(actions, context) == [node.name for node in load_graph().resolve(simulation=False)]


def test_namesakes_are_looked_for_before_a_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def look(context: Any, names: list[str], *, own_clock: bool) -> list[Any]:
        assert not own_clock
        return looked.extend(names) or []

    monkeypatch.setattr(launch_actions, "find_duplicate_nodes", look)
    actions, context = actions_of(ROOT / "launch/bringup.launch.py", namespace="left")
    for action in actions[: next(i for i, one in enumerate(actions) if hasattr(one, "node_executable"))]:
        if type(action).__name__ == "OpaqueFunction":
            action.execute(context)
    assert looked == [f"/left/{node.name}" for node in load_graph().resolve(simulation=False)]


def test_a_wrong_argument_is_refused() -> None:
    from vla_ros.errors import ContractError

    for arguments in ({"seed": "seven"}, {"robot": "robbie"}, {"namespace": "2nd arm"}):
        with pytest.raises(ContractError, match=next(iter(arguments.values()))):
            actions_of(ROOT / "launch/bringup.launch.py", **arguments)


def test_the_dds_profile_is_set_unless_the_user_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "launch/bringup.launch.py"
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    actions, _ = actions_of(path)
    settings = [action for action in actions if type(action).__name__ == "SetEnvironmentVariable"]
    assert len(settings) == 1
    assert share_file(load(path).DDS_PROFILE).exists()
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/home/me/mine.xml")
    actions, _ = actions_of(path)
    assert not [action for action in actions if type(action).__name__ == "SetEnvironmentVariable"]


def test_the_simulation_includes_bringup_with_the_cell() -> None:
    actions, _ = actions_of(ROOT / "launch/simulation_mujoco.launch.py", seed="7")
    passed = dict(actions[0].launch_arguments)
    assert (passed["simulation"], passed["use_sim_time"], passed["seed"]) == ("mujoco", "true", "7")


def test_the_robot_is_armed_only_where_that_is_asked_for() -> None:
    for given, expected in (("false", False), ("true", True)):
        actions, context = actions_of(ROOT / "launch/bringup.launch.py", arm=given)
        assert parameters_of(actions, context, "safety_node")["arm_on_activate"] is expected
    actions, context = actions_of(ROOT / "launch/bringup.launch.py")
    assert parameters_of(actions, context, "safety_node")["arm_on_activate"] is False


def test_a_namespace_is_put_before_every_name_of_the_arm() -> None:
    actions, context = actions_of(ROOT / "launch/bringup.launch.py", namespace="left")
    assert node_names(actions, context)[0].startswith("left/")
    from launch_ros.actions import LifecycleNode

    node = next(action for action in actions if isinstance(action, LifecycleNode))
    renamed = dict(node.expanded_remapping_rules)
    assert renamed["/camera/front/image_raw"] == "/left/camera/front/image_raw"
    assert "/clock" not in renamed


def test_nothing_but_the_simulated_robot_is_activated_before_the_preflight_has_passed() -> None:
    module = load(ROOT / "launch/bringup.launch.py")
    order = module.LifecycleOrder(["sim", "a", "b"], 1, module.Arm(load_contract("panda"), ""))
    order._ask = lambda index, transition: (index, transition)  # what would be asked of which node
    order.preflight = ["preflight"]
    assert order._activate(0) == [(0, 3)]
    assert order._after_activating(None, 0) == ["preflight"]
    assert order.ready(None) == [(1, 3)]
    robot = module.LifecycleOrder(["a", "b"], 0, module.Arm(load_contract("panda"), ""))
    robot._ask = order._ask
    assert robot._activate(0) == []
    assert robot.ready(None) == [(0, 3)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_is_explained(path: Path) -> None:
    description = load(path).generate_launch_description()
    for action in description.entities:
        if type(action).__name__ == "DeclareLaunchArgument":
            assert action.description not in ("", "no description given"), f"{path.name}: {action.name}"


def test_gazebo_says_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_ros.errors import ContractError

    module = load(ROOT / "launch/simulation_gazebo.launch.py")
    with pytest.raises(ContractError, match=r"no_such_package, nor_this.*sudo apt install ros-\$ROS_DISTRO-no-such"):
        module.require(("no_such_package", "nor_this"))


@pytest.mark.parametrize("kind", ["gz", "ros2_control"])
def test_gazebo_starts_robot_bridges_and_then_the_graph(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(ROOT / "launch/simulation_gazebo.launch.py")
    from launch import LaunchContext

    monkeypatch.setattr(module, "is_installed", lambda package: True)
    monkeypatch.setattr(module.shutil, "which", lambda command: f"/bin/{command}")
    context = LaunchContext()
    for action in module.generate_launch_description().entities:
        if type(action).__name__ == "DeclareLaunchArgument":
            context.launch_configurations[action.name] = "".join(p.perform(context) for p in action.default_value)
    context.launch_configurations.update(headless="true", seed="7", controllers=kind, gz_args="-v 4")
    actions = module.bring_up(context)
    gazebo = next(action for action in actions if type(action).__name__ == "ExecuteProcess")
    words = ["".join(part.perform(context) for part in word) for word in gazebo.cmd]
    assert words[:3] == ["/bin/ruby", "/bin/gz", "sim"]  # not a shell: it would take the signals
    for word in ("-r", "-s", "--headless-rendering", "--render-engine-server ogre2", "--seed 8", "pick.sdf"):
        assert word in " ".join(words)
    assert words[-3:-1] == ["-v", "4"]
    with pytest.raises(GraphError, match="Gazebo has ended"):
        gazebo._ExecuteLocal__on_exit(Ended(1), context)
    assert [type(action).__name__ for action in gazebo._ExecuteLocal__on_exit(Ended(0), context)] == ["Shutdown"]
    executables = [p.node_executable for p in actions if type(p).__name__ == "Node"]
    texts = ["".join(q.perform(context) for q in e) if isinstance(e, list) else e for e in executables]
    assert texts == ["robot_state_publisher", "parameter_bridge", "parameter_bridge", "create"]


KILLED = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import ExecuteProcess
from vla_ros.bringup.launch_actions import follows_launch
service = LaunchService()
follower = ExecuteProcess(cmd=[sys.executable, "-c", "import time; time.sleep(120)"], prefix=follows_launch())
service.include_launch_description(LaunchDescription([follower]))
service.run()
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="util-linux' setpriv is not installed here")
def test_what_follows_the_launch_ends_with_it_even_when_it_is_killed() -> None:
    pytest.importorskip("launch_ros.actions", reason="ROS 2's launch is not installed here")
    launch = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert launch.stdout is not None
    started = None
    while started is None:
        line = launch.stdout.readline()
        assert line, "it ended before it started the process"
        started = re.search(rb"process started with pid \[(\d+)\]", line)
    follower = Path("/proc") / started.group(1).decode()
    end = time.monotonic() + DEADLINE
    while b"time.sleep" not in (command := (follower / "cmdline").read_bytes()) or b"setpriv" in command:
        assert time.monotonic() < end, command  # setpriv has not become the process yet
    launch.kill()
    launch.wait(timeout=DEADLINE)
    while follower.exists():
        assert time.monotonic() < end, "it outlived the launch"
        time.sleep(0.01)


def test_a_step_that_fails_ends_the_launch_with_an_error_and_the_next_one_is_not_taken() -> None:
    module = load(ROOT / "launch/simulation_gazebo.launch.py")
    from launch import LaunchContext

    taken: list[str] = []
    react = module.after("the controller arm_controller", lambda: taken.append("next") or [])
    with pytest.raises(GraphError, match="the controller arm_controller failed"):
        react(Ended(1), LaunchContext())
    assert taken == []
    react(Ended(0), LaunchContext())
    assert taken == ["next"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_argument_is_declared_twice(path: Path) -> None:
    entities = load(path).generate_launch_description().entities
    names = [action.name for action in entities if type(action).__name__ == "DeclareLaunchArgument"]
    assert len(names) == len(set(names)), names


def test_a_required_node_that_ends_ends_the_launch_with_an_error() -> None:
    module = load(ROOT / "launch/bringup.launch.py")
    from launch import LaunchContext

    safety = next(node for node in load_graph().resolve(simulation=False) if node.name == "safety_node")
    ended = module.process(safety, module.Arm(load_contract("panda"), ""), "info")._ExecuteLocal__on_exit
    with pytest.raises(GraphError, match="safety_node has ended"):
        ended[0].execute(LaunchContext())
    ending = LaunchContext()
    ending._set_is_shutdown(True)
    assert ended[0].execute(ending) == []
