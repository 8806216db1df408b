"""Brings up the whole graph with the MuJoCo cell in place of a robot; takes the arguments of bringup.launch.py.

ros2 launch vla_ros simulation_mujoco.launch.py seed:=7 instruction:="pick up the red cube"
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` runs."""
    bringup = str(Path(__file__).resolve().parent / "bringup.launch.py")
    return LaunchDescription(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(bringup), launch_arguments={"simulation": "mujoco"}.items()
            )
        ]
    )
