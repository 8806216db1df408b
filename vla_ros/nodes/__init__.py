"""The ROS 2 graph: thin nodes over the core."""

import vla_ros.ros  # noqa: F401 (its checks come before any import of rclpy)
