"""Starts, configures and ends the graph: runner, launch files, security policy."""

import vla_ros.ros  # noqa: F401 (its checks come before any import of rclpy)
