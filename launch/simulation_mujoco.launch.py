"""Brings up the whole graph with the MuJoCo workcell in place of a robot; takes bringup.launch.py's arguments.

ros2 launch vla_ros simulation_mujoco.launch.py seed:=7 instruction:="pick up the red cube"
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import Action, LaunchContext, LaunchDescription
from vla_ros.bringup.launch_arguments import (
    GRAPH,
    LOG_LEVEL,
    NAMESPACE,
    PARAMS_FILE,
    PREFLIGHT,
    LaunchArgument,
    declare,
    given,
    graph_arguments,
)

FIXED = {"simulation": "mujoco", "use_sim_time": "true"}
SIMULATED = LaunchArgument("use_sim_time", "true", "always, with a simulation", ("true",))


def arguments() -> list[LaunchArgument]:
    """Return the user's arguments."""
    return [GRAPH, NAMESPACE, LOG_LEVEL, PREFLIGHT, PARAMS_FILE, *graph_arguments(without=FIXED)]


def bring_up(context: LaunchContext) -> list[Action]:
    """Return the actions for the given arguments."""
    bringup = PythonLaunchDescriptionSource(str(Path(__file__).resolve().parent / "bringup.launch.py"))
    text = given(context)
    passed = {one.name: text(one.name) for one in arguments()} | FIXED
    return [IncludeLaunchDescription(bringup, launch_arguments=passed.items())]


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` runs."""
    # Included late: otherwise `--show-args` would show the arguments of bringup.launch.py with its defaults.
    return LaunchDescription([*declare(*arguments()), *declare(SIMULATED), OpaqueFunction(function=bring_up)])
