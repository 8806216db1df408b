"""Episodes from the running graph: bags, LeRobot data sets, teleoperation."""

import vla_ros.ros  # noqa: F401 (its checks come before any import of rclpy)
