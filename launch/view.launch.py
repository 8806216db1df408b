"""Shows the robot, its cameras and its frames in RViz. It looks and touches nothing: its end ends nothing else.

ros2 launch vla_ros view.launch.py namespace:=left
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import Action, LaunchContext, LaunchDescription
from vla_ros.nodes.interfaces import checked_namespace, remappings
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract


def bring_up(context: LaunchContext) -> list[Action]:
    """Return the actions for the arguments that the user gave."""

    def given(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    namespace = checked_namespace(given("namespace"))
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=namespace,
            remappings=remappings(load_contract(given("robot")), namespace),
            arguments=["-d", str(share_file(given("layout"))), "-f", load_contract(given("robot")).base_frame],
            parameters=[{"use_sim_time": given("use_sim_time").lower() == "true"}],
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` runs."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("robot", default_value="panda", description="robot contract: a name or a file"),
            DeclareLaunchArgument("layout", default_value="rviz/vla.rviz", description="RViz layout"),
            DeclareLaunchArgument("namespace", default_value="", description="of the arm's topics; empty: none"),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="true with a simulation"),
            OpaqueFunction(function=bring_up),
        ]
    )
