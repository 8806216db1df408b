"""ROS 2 plumbing shared by nodes and tools: quality of service, lifecycle, messages, clock, DDS."""

from vla_ros.ros.dds.environment_check import require_log_folder, require_middleware
from vla_ros.ros.dds.shared_memory_check import require_shared_memory

# Before any module of this package imports rclpy.
require_shared_memory()
require_middleware()
require_log_folder()
