"""The launch files: what can be checked everywhere, and, where ROS 2's `launch` is installed, what they describe."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vla_ros.nodes.graph import load_graph
from vla_ros.paths import share_file

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))


def load(path: Path) -> ModuleType:
    """Import a launch file as `ros2 launch` does."""
    pytest.importorskip("launch_ros.actions", reason="ROS 2's launch is not installed here")
    specification = importlib.util.spec_from_file_location(path.name.split(".")[0], path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_there_are_launch_files() -> None:
    assert {path.name for path in FILES} >= {"bringup.launch.py", "simulation_mujoco.launch.py"}


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
    assert {"launch", "config", "urdf", "checkpoints"} <= set(folders.group(1).split())


def actions_of(path: Path, **arguments: str) -> tuple[list[Any], Any]:
    """Return what the file's `bring_up` makes of the arguments, and the launch context."""
    module = load(path)
    from launch import LaunchContext

    context = LaunchContext()
    for action in module.generate_launch_description().entities:
        if type(action).__name__ == "DeclareLaunchArgument":
            default = "".join(part.perform(context) for part in action.default_value)
            context.launch_configurations[action.name] = arguments.pop(action.name, default)
    assert not arguments, f"arguments that the file does not declare: {arguments}"
    return module.bring_up(context), context


def node_names(actions: list[Any], context: Any) -> list[str]:
    from launch_ros.actions import LifecycleNode

    nodes = [action for action in actions if isinstance(action, LifecycleNode)]
    for node in nodes:
        node._perform_substitutions(context)
    return [node.node_name.lstrip("/") for node in nodes]


def test_bringup_describes_the_nodes_of_the_graph_file() -> None:
    actions, context = actions_of(ROOT / "launch/bringup.launch.py", simulation="true", seed="12", robot="panda")
    assert node_names(actions, context) == [node.name for node in load_graph().nodes]
    actions, context = actions_of(ROOT / "launch/bringup.launch.py")
    assert node_names(actions, context) == [node.name for node in load_graph().resolve(simulation=False)]


def test_a_wrong_argument_is_refused() -> None:
    from vla_ros.errors import ContractError

    with pytest.raises(ContractError, match="seed"):
        actions_of(ROOT / "launch/bringup.launch.py", seed="seven")


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
    description = load(ROOT / "launch/simulation_mujoco.launch.py").generate_launch_description()
    include = next(e for e in description.entities if type(e).__name__ == "IncludeLaunchDescription")
    assert ("simulation", "true") in list(include.launch_arguments)
