"""Records observations, decisions and commands of the graph into one MCAP file, with ros2 bag.

    ros2 launch vla_ros record.launch.py robot:=panda out:=runs/bags/today

Besides the topics of the graph it records the cameras, joint states and commands that the robot contract names.
"""

from __future__ import annotations

from datetime import datetime

from launch.actions import ExecuteProcess, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited

from launch import Action, LaunchContext, LaunchDescription
from vla_ros.bringup.launch_actions import arm_namespace, end_launch
from vla_ros.bringup.launch_arguments import NAMESPACE, OUT, ROBOT, USE_SIM_TIME, declare, given, given_flag
from vla_ros.robot.contract import load_contract
from vla_ros.ros.messages.interfaces import SHARED, TOPICS, checked_namespace, namespaced, robot_topics


def topics(robot: str, namespace: str) -> list[str]:
    """Return the recorded topics, in the namespace of the arm."""
    bare = checked_namespace(namespace)
    own = [*TOPICS, "/robot_description", *robot_topics(load_contract(robot))]
    return [*SHARED, *(namespaced(name, bare) for name in dict.fromkeys(own))]


def ended(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """End the launch with the recorder: with an error (exit code 1) if it failed."""
    if event.returncode == 0:
        return [Shutdown(reason="the recording has ended")]
    return end_launch(context, f"the recorder failed (exit code {event.returncode}): its lines say why")


def bring_up(context: LaunchContext) -> list[Action]:
    """Return the actions for the given arguments."""
    text = given(context)
    out = text("out") or f"runs/bags/{datetime.now():%Y%m%d_%H%M%S}"
    command = ["ros2", "bag", "record", "--storage", "mcap", "--output", out]
    if given_flag(context, "use_sim_time"):
        command.append("--use-sim-time")
    namespace = arm_namespace(context, text("namespace"))
    return [
        ExecuteProcess(
            cmd=[*command, "--topics", *topics(text("robot"), namespace)], name="record", output="screen", on_exit=ended
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` runs."""
    return LaunchDescription([*declare(ROBOT, OUT, NAMESPACE, USE_SIM_TIME), OpaqueFunction(function=bring_up)])
