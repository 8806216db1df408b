"""Shows the robot, its cameras and its frames in RViz. It only subscribes; ending it ends nothing else.

ros2 launch vla_ros view.launch.py namespace:=left
"""

from __future__ import annotations

from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from launch import Action, LaunchContext, LaunchDescription
from vla_ros.bringup.launch_actions import arm_namespace
from vla_ros.bringup.launch_arguments import LAYOUT, NAMESPACE, ROBOT, USE_SIM_TIME, declare, given, given_flag
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.ros.messages.interfaces import remappings


def bring_up(context: LaunchContext) -> list[Action]:
    """Return the actions for the given arguments."""
    text = given(context)
    contract, namespace = load_contract(text("robot")), arm_namespace(context, text("namespace"))
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=f"/{namespace}" if namespace else "",
            remappings=remappings(contract, namespace),
            arguments=["-d", str(share_file(text("layout"))), "-f", contract.base_frame],
            parameters=[{"use_sim_time": given_flag(context, "use_sim_time")}],
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` runs."""
    return LaunchDescription([*declare(ROBOT, LAYOUT, NAMESPACE, USE_SIM_TIME), OpaqueFunction(function=bring_up)])
