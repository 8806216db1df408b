"""The ROS 2 graph: thin nodes over the core."""

from vla_ros.nodes.environment_check import require_log_folder, require_middleware
from vla_ros.nodes.shared_memory_check import require_shared_memory

# Before any module of this package imports rclpy.
require_shared_memory()
require_middleware()
require_log_folder()
