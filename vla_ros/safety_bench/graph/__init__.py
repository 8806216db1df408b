"""Fault injection in the real graph: kill, stop and disconnect real processes, tamper with real sensors and clocks."""

import vla_ros.ros  # noqa: F401 (its checks come before any import of rclpy)
