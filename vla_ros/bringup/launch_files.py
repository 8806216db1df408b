"""Content that the launch files need and `ros2 launch` lacks: robot descriptions, controller parameters, bridge rules.

Does not import `launch`, so that all of it can be tested on machines without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.description.urdf import with_camera_links, with_fixed_joints
from vla_ros.robot.description.xacro_files import expand_xacro
from vla_ros.yaml_files import read_yaml

CONTROLLERS_FILE = "config/controllers.yaml"
BRIDGE_FILES = {
    "common": "config/gazebo/bridge.yaml",
    "controllers": "config/gazebo/bridge_controllers.yaml",
    "images": "config/gazebo/bridge_images.yaml",
}
HARDWARE = {"gz": "gz", "ros2_control": "gz_ros2_control"}
"""Maps the argument `controllers` of the Gazebo launch file to the `hardware` of the description."""


def controller_parameters(contract: RobotContract, *, use_sim_time: bool, namespace: str = "") -> dict[str, Any]:
    """Return the ros2_control parameters for a robot whose controllers are nodes of `namespace`.

    They are those of `CONTROLLERS_FILE` with the joints and the timeout of the contract. Each node has its full name,
    because ros2_control does not look for a shorter one once there is a namespace.
    """
    joints = {"arm_controller": contract.joints.names, "gripper_controller": contract.gripper.names}
    named = {}
    for name, section in read_yaml(share_file(CONTROLLERS_FILE), "controllers").items():
        values = {**section["ros__parameters"], "use_sim_time": use_sim_time}
        if not joints.get(name, (name,)):  # without a gripper there is no controller for it
            continue
        if name in joints:
            values.update(joints=list(joints[name]), cmd_timeout=contract.controllers.command_timeout)
        named[f"/{namespace}/{name}" if namespace else name] = {"ros__parameters": values}
    return named


def bridge_rules(kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Return the ros_gz_bridge rules of the given `BRIDGE_FILES`."""
    rules: list[dict[str, Any]] = []
    for kind in kinds:
        rules += read_yaml(share_file(BRIDGE_FILES[kind]), "rules of the bridge")
    return rules


def world_name(path: Path) -> str:
    """Return the name of the world in an SDF file.

    Raises:
        ContractError: when it has none.
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

    A description without a .xacro file beside it is the robot's own. Cameras whose pose the contract defines get
    frames. In simulation the fixed joints of the contract are made immobile, because nothing would drive them.

    Raises:
        ContractError: when xacro is missing or rejects the file, or simulated hardware is requested for a plain URDF.
    """
    source = contract.xacro or contract.urdf.with_name(contract.urdf.name + ".xacro")
    if not source.exists():
        if hardware != "none":
            raise ContractError(f"{contract.urdf.name} has no {source.name} beside it that could choose '{hardware}'")
        return with_camera_links(contract.urdf.read_text(encoding="utf-8"), contract.cameras)
    chosen = {"hardware": hardware, "parameters_file": parameters_file, "namespace": namespace}
    text = with_camera_links(expand_xacro(source, {**contract.xacro_arguments, **chosen}), contract.cameras)
    return text if hardware == "none" else with_fixed_joints(text, contract.joints.fixed)


def temporary_file(content: Any, suffix: str) -> Path:  # noqa: ANN401 (YAML content, or a text)
    """Write YAML content or text to a temporary file of this launch; return its path."""
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    with tempfile.NamedTemporaryFile("w", prefix="vla_ros_", suffix=suffix, delete=False, encoding="utf-8") as file:
        file.write(text)
    return Path(file.name)
