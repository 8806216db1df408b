"""What the launch files need and `ros2 launch` does not know: descriptions, controller parameters, bridge files.

Imports no `launch`, so that everything in here is tried on machines that do not have it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.description import with_fixed_joints
from vla_ros.yaml_files import read_yaml

CONTROLLERS_FILE = "config/controllers.yaml"
BRIDGE_FILES = {
    "common": "config/gazebo/bridge.yaml",
    "controllers": "config/gazebo/bridge_controllers.yaml",
    "images": "config/gazebo/bridge_images.yaml",
}
HARDWARE = {"gz": "gz", "ros2_control": "gz_ros2_control"}
"""Argument `controllers` of the Gazebo launch file to the `hardware` of the description."""

_ABOUT = {
    "robot": "robot contract: a name in config/robots, or a file",
    "policy": "folder of a checkpoint",
    "device": "auto, cpu, cuda",
    "use_sim_time": "false on a robot",
    "arm": "true: arm as soon as the robot allows it; false: a dry run until /vla/arm is called",
    "seed": "simulation: decides the scene",
    "instruction": "simulation: task that the scene is prepared for",
    "lockstep": "simulation: time waits for every node",
    "real_time_factor": "simulation: simulated seconds a second",
    "command_clock": "stamps of commands: system, arrival; auto: arrival for a simulator with a time of its own",
}


def about(argument: str) -> str:
    """Return what an argument of the graph is for, as `ros2 launch --show-args` tells it."""
    return _ABOUT.get(argument, "see config/graph.yaml")


def fill_in(value: Any, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 (whatever YAML holds)
    """Return YAML content with "$name" replaced: alone by the value itself, inside a longer text by its text.

    Raises:
        ContractError: naming a "$name" that nobody gave.
    """
    if isinstance(value, Mapping):
        return {key: fill_in(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_in(item, values) for item in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    if value[1:] in values and value.startswith("$"):
        return values[value[1:]]
    for name, replacement in values.items():
        value = value.replace(f"${name}", str(replacement))
    if "$" in value:
        raise ContractError(f"'{value}': nobody gave its value; there are {sorted(values)}")
    return value


def controller_parameters(contract: RobotContract, *, use_sim_time: bool, namespace: str = "") -> dict[str, Any]:
    """Return the parameters of ros2_control for a robot whose controllers are nodes of `namespace`.

    Each is named in full: ros2_control looks for no shorter name once there is a namespace.
    """
    template = read_yaml(share_file(CONTROLLERS_FILE), "controllers")
    values = {
        "arm_joints": list(contract.joints.names),
        "gripper_joints": list(contract.gripper.names),
        "command_timeout": contract.controllers.command_timeout,
        "use_sim_time": use_sim_time,
    }
    return {f"/{namespace}/{name}" if namespace else name: fill_in(part, values) for name, part in template.items()}


def bridge_rules(kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rules of ros_gz_bridge of some `BRIDGE_FILES`."""
    rules: list[dict[str, Any]] = []
    for kind in kinds:
        rules += read_yaml(share_file(BRIDGE_FILES[kind]), "rules of the bridge")
    return rules


def world_name(path: Path) -> str:
    """Return the name of the world in an SDF file.

    Raises:
        ContractError: when it holds none.
    """
    try:
        world = ElementTree.parse(path).getroot().find("world")
    except (OSError, ElementTree.ParseError) as error:
        raise ContractError(f"no world in {path}: {error}") from error
    if world is None or not world.get("name"):
        raise ContractError(f"{path} has no <world name=...>")
    return str(world.get("name"))


def robot_description(
    contract: RobotContract, hardware: str = "none", parameters_file: str = "", namespace: str = ""
) -> str:
    """Return the robot's URDF with the hardware that moves it, in a namespace; see urdf/parts/control.xacro.

    A description without a .xacro file beside it is a robot's own, and is returned as it is. In simulation the fixed
    joints of the contract do not move: nothing would drive them there.

    Raises:
        ContractError: when xacro is missing or refuses the file, or a plain URDF is asked for simulated hardware.
    """
    source = contract.urdf.with_name(contract.urdf.name + ".xacro")
    if not source.exists():
        if hardware != "none":
            raise ContractError(f"{contract.urdf.name} has no {source.name} beside it that could choose '{hardware}'")
        return contract.urdf.read_text(encoding="utf-8")
    try:
        import xacro
    except ImportError as error:
        raise ContractError(
            "xacro is not installed: apt install ros-$ROS_DISTRO-xacro, or pip install xacro"
        ) from error
    try:
        chosen = {"hardware": hardware, "parameters_file": parameters_file, "namespace": namespace}
        document = xacro.process_file(str(source), mappings=chosen)
    except Exception as error:  # xacro's errors have no common root
        raise ContractError(f"{source.name}: {error}") from error
    text = str(document.toxml())
    return text if hardware == "none" else with_fixed_joints(text, contract.joints.fixed)


def temporary_file(content: Any, suffix: str) -> Path:  # noqa: ANN401 (YAML content, or a text)
    """Write YAML, or a text, to a file of this launch and return its path."""
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    with tempfile.NamedTemporaryFile("w", prefix="vla_ros_", suffix=suffix, delete=False, encoding="utf-8") as file:
        file.write(text)
    return Path(file.name)
