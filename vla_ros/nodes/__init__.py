"""The ROS 2 graph: thin nodes over the core."""
