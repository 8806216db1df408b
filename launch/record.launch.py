"""Records what the graph sees, decides and does into one MCAP file, with ros2 bag.

    ros2 launch vla_ros record.launch.py robot:=panda out:=runs/bags/today

Beside the topics of the graph it takes the cameras, joint states and commands that the robot contract names.
"""

from __future__ import annotations

from datetime import datetime

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration

from launch import Action, LaunchContext, LaunchDescription
from vla_ros.nodes.interfaces import SHARED, TOPICS, checked_namespace, namespaced, robot_topics
from vla_ros.robot.contract import load_contract


def topics(robot: str, namespace: str) -> list[str]:
    """Return every topic that is worth keeping, in the namespace of the arm."""
    bare = checked_namespace(namespace)
    own = [*TOPICS, "/robot_description", *robot_topics(load_contract(robot))]
    return [*SHARED, *(namespaced(name, bare) for name in dict.fromkeys(own))]


def bring_up(context: LaunchContext) -> list[Action]:
    """Return the actions for the arguments that the user gave."""

    def given(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    out = given("out") or f"runs/bags/{datetime.now():%Y%m%d_%H%M%S}"
    command = ["ros2", "bag", "record", "--storage", "mcap", "--output", out]
    if given("use_sim_time").lower() == "true":
        command.append("--use-sim-time")
    end = Shutdown(reason="the recording has ended")
    return [
        ExecuteProcess(
            cmd=[*command, "--topics", *topics(given("robot"), given("namespace"))],
            name="record", output="screen", on_exit=[end],
        )
    ]  # fmt: skip


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` runs."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("robot", default_value="panda", description="robot contract: a name or a file"),
            DeclareLaunchArgument("out", default_value="", description="folder; by default runs/bags/<date>"),
            DeclareLaunchArgument("namespace", default_value="", description="of the arm's topics; empty: none"),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="true with a simulation"),
            OpaqueFunction(function=bring_up),
        ]
    )
