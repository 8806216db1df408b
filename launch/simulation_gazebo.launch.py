"""Brings up the workcell in Gazebo and, once its controllers are active, the graph.

    ros2 launch vla_ros simulation_gazebo.launch.py headless:=true controllers:=gz seed:=7

    gz sim (world, seed, rendering) -> robot_state_publisher, bridges, `create` the robot
    controllers:=gz            -> the graph, when the robot has been created
    controllers:=ros2_control  -> joint_state_broadcaster -> arm_controller -> gripper_controller -> the graph

Each step waits for the one before; a failed step ends the launch with its name. Everything ends with Gazebo.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.actions import (
    AppendEnvironmentVariable,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

from launch import Action, LaunchContext, LaunchDescription
from vla_ros.bringup.launch_actions import (
    Group,
    arm_namespace,
    end_launch,
    finds_duplicate_nodes,
    follows_launch,
    is_installed,
    required,
)
from vla_ros.bringup.launch_arguments import (
    GAZEBO,
    LOG_LEVEL,
    NAMESPACE,
    PARAMS_FILE,
    declare,
    given,
    given_flag,
    graph_arguments,
    graph_texts,
)
from vla_ros.bringup.launch_files import (
    HARDWARE,
    bridge_rules,
    controller_parameters,
    robot_description,
    temporary_file,
    world_name,
)
from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.graph.description import load_graph
from vla_ros.ros.messages.interfaces import namespaced, remappings
from vla_ros.ros.parameter_files import parameters_file

SWITCH_TIMEOUT = "30"  # s; a slow simulation start must not count as a failed controller
NEEDED = ("ros_gz_sim", "ros_gz_bridge", "robot_state_publisher")
NEEDED_FOR_ROS2_CONTROL = (
    "controller_manager",
    "gz_ros2_control",
    "joint_trajectory_controller",
    "joint_state_broadcaster",
)
NOT_FOR_GAZEBO = ("world", "lockstep", "real_time_factor", "use_sim_time", "tf")
PASSED_ON = (NAMESPACE, LOG_LEVEL, PARAMS_FILE)


def require(packages: tuple[str, ...]) -> None:
    """Check for missing ROS 2 packages and report all of them at once.

    Raises:
        ContractError: naming them and the command that installs them.
    """
    missing = [package for package in packages if not is_installed(package)]
    if missing:
        names = " ".join(f"ros-$ROS_DISTRO-{package.replace('_', '-')}" for package in missing)
        raise ContractError(f"not installed: {', '.join(missing)}. Install with: sudo apt install {names}")


def after(step: str, then: Callable[[], list[Action]]) -> Callable[[ProcessExited, LaunchContext], list[Action]]:
    """Return the handler of a step's end: `then`, or the end of the launch if the step failed."""

    def react(event: ProcessExited, context: LaunchContext) -> list[Action]:
        if event.returncode == 0 and not context.is_shutdown:
            return then()
        why = f"{step} failed (exit code {event.returncode}): its lines say why; nothing was activated"
        return end_launch(context, why)

    return react


def gazebo(context: LaunchContext, world: Path) -> ExecuteProcess:
    """Return the simulator, without a shell: that would catch the signals, and leave the server running.

    Raises:
        ContractError: when it is not installed.
    """
    text = given(context)

    def ended(event: ProcessExited, context: LaunchContext) -> list[Action]:
        if context.is_shutdown:
            return []
        if event.returncode == 0:  # the window was closed
            return [Shutdown(reason="Gazebo has ended")]
        return end_launch(context, f"Gazebo has ended (exit code {event.returncode})")

    ruby, gz = shutil.which("ruby"), shutil.which("gz")
    if ruby is None or gz is None:
        raise ContractError(
            "there is no command 'gz': sudo apt install ros-$ROS_DISTRO-ros-gz, then source ROS 2 again"
        )
    try:
        seed = int(text("seed"))
    except ValueError as error:
        raise ContractError(f"argument seed: got {text('seed')!r}, expected a whole number such as 7") from error
    command = [ruby, gz, "sim", "-r", "--seed", str(seed + 1)]
    # A seed of 0 would mean none; -r: a paused start hangs controllers.
    if given_flag(context, "headless"):
        command += ["-s", "--headless-rendering", "--render-engine-server", text("render_engine")]
    else:
        command += ["--render-engine", text("render_engine")]
    # Systems of ROS packages, such as gz_ros2_control, are in their library folders.
    systems = [os.environ.get(name, "") for name in ("GZ_SIM_SYSTEM_PLUGIN_PATH", "LD_LIBRARY_PATH")]
    return ExecuteProcess(
        cmd=[*command, *shlex.split(text("gz_args")), str(world)],
        name="gazebo",
        output="screen",
        prefix=follows_launch(),
        additional_env={"GZ_SIM_SYSTEM_PLUGIN_PATH": os.pathsep.join(filter(None, systems))},
        on_exit=ended,
    )


def bridge(name: str, rules: list[dict[str, Any]], contract: RobotContract, namespace: str) -> Node:
    """Return a bridge process; its end ends the launch, because the graph would miss its topics."""
    return Node(
        package="ros_gz_bridge",
        executable="parameter_bridge",
        name=name,
        exec_name=name,
        namespace=_absolute(namespace),
        remappings=remappings(contract, namespace),
        prefix=follows_launch(),
        parameters=[{"config_file": str(temporary_file(rules, ".yaml")), "use_sim_time": True}],
        output="screen",
        on_exit=required(name),
    )


def spawner(
    controllers: list[str], parameters: Path, namespace: str, group: Group, then: Callable[[], list[Action]]
) -> list[Action]:
    """Return the actions that load and activate `controllers` one after the other, then run `then`."""
    name, *others = controllers

    def next_step() -> list[Action]:
        return spawner(others, parameters, namespace, group, then) if others else then()

    first = Node(
        package="controller_manager",
        executable="spawner",
        namespace=_absolute(namespace),
        arguments=[
            name,
            "--param-file",
            str(parameters),
            "--switch-timeout",
            SWITCH_TIMEOUT,
            "--controller-manager-timeout",
            SWITCH_TIMEOUT,
        ],
        output="screen",
        on_exit=after(f"the controller {name}", next_step),
    )
    return group.inside([first])


def _absolute(namespace: str) -> str:
    """Return an absolute namespace, so that it is not put below a pushed one a second time."""
    return f"/{namespace}" if namespace else ""


def bring_up(context: LaunchContext) -> list[Action]:
    """Return the actions for the given arguments."""
    text = given(context)
    contract, group = load_contract(text("robot")), Group()
    Kinematics(contract)
    namespace = arm_namespace(context, text("namespace"))
    kind, world = text("controllers"), share_file(text("world"))
    require(NEEDED + (NEEDED_FOR_ROS2_CONTROL if kind == "ros2_control" else ()))
    parameters = temporary_file(controller_parameters(contract, use_sim_time=True, namespace=namespace), ".yaml")
    description = robot_description(contract, HARDWARE[kind], str(parameters), namespace)
    renamed = remappings(contract, namespace)

    passed = {one.name: text(one.name) for one in (*PASSED_ON, *graph_arguments(NOT_FOR_GAZEBO))}
    passed.update(
        namespace=_absolute(namespace),
        simulation="gazebo",
        use_sim_time="true",
        preflight="true",
        lockstep="false",
        tf="none",
    )
    shipped = load_graph()
    descriptions = shipped.resolve(graph_texts(shipped, passed), simulation="gazebo")
    # bringup.launch.py reads the file only once Gazebo runs; reject a wrong one before that.
    nodes = {one.name: one.parameters for one in descriptions}
    nodes["preflight"] = {"robot": text("robot"), "use_sim_time": True}
    parameters_file(text("params_file"), nodes, namespace, [one.name for one in shipped.nodes])

    def graph() -> list[Action]:
        source = str(Path(__file__).resolve().parent / "bringup.launch.py")
        include = IncludeLaunchDescription(PythonLaunchDescriptionSource(source), launch_arguments=passed.items())
        return group.inside([include])

    def controllers() -> list[Action]:
        if kind == "gz":
            return graph()
        order = ["joint_state_broadcaster", "arm_controller", "gripper_controller"]
        return spawner(order, parameters, namespace, group, graph)

    started = [*(one.name for one in descriptions), "robot_state_publisher"]
    names = [namespaced(f"/{name}", namespace) for name in started]
    actions: list[Action] = [
        group.remember(),
        # Checked before Gazebo starts: a second one would create its robot in the first one's world.
        finds_duplicate_nodes(names, own_clock=True),
        gazebo(context, world),
        Node(
            package="robot_state_publisher",
            executable="robot_state_publisher",
            exec_name="robot_state_publisher",
            namespace=_absolute(namespace),
            remappings=renamed,
            prefix=follows_launch(),
            parameters=[{"robot_description": description, "use_sim_time": True}],
            output="screen",
        ),
        bridge("bridge", bridge_rules(("common", "controllers") if kind == "gz" else ("common",)), contract, namespace),
        bridge("bridge_images", bridge_rules(("images",)), contract, namespace),
        Node(
            package="ros_gz_sim",
            executable="create",
            namespace=_absolute(namespace),
            remappings=renamed,
            arguments=["-world", world_name(world), "-name", contract.name, "-topic", "robot_description"],
            output="screen",
            on_exit=after("creating the robot in Gazebo", controllers),
        ),
    ]
    if given_flag(context, "rviz"):
        source = str(Path(__file__).resolve().parent / "view.launch.py")
        shown = {"namespace": _absolute(namespace), "robot": text("robot"), "use_sim_time": "true"}
        actions.append(IncludeLaunchDescription(PythonLaunchDescriptionSource(source), launch_arguments=shown.items()))
    return actions


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` runs."""
    resources = str(share_file("worlds").parent.parent)
    return LaunchDescription(
        [
            *declare(*GAZEBO, *PASSED_ON, *graph_arguments(NOT_FOR_GAZEBO)),
            AppendEnvironmentVariable("GZ_SIM_RESOURCE_PATH", resources),
            OpaqueFunction(function=bring_up),
        ]
    )
