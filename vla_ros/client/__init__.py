"""Operator side of a running graph: arm, instruct, observe, evaluate."""

import vla_ros.ros  # noqa: F401 (its checks come before any import of rclpy)
