"""The ROS 2 graph: thin nodes over the core."""

from vla_ros.nodes.shared_memory_check import require_shared_memory

require_shared_memory()  # before any module of this package imports rclpy
