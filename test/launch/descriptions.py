"""What tests of the launch files share: a file's description, made of arguments without starting a process."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

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


@dataclass
class Ended:
    """What the end of a process says."""

    returncode: int


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


def parameters_of(actions: list[Any], context: Any, name: str) -> dict[str, Any]:
    from launch_ros.actions import LifecycleNode
    from launch_ros.utilities import evaluate_parameters

    nodes = [action for action in actions if isinstance(action, LifecycleNode)]
    names = node_names(actions, context)
    merged: dict[str, Any] = {}
    for part in evaluate_parameters(context, nodes[names.index(name)]._Node__parameters):
        merged.update(part)
    return merged
