"""Distinguish controllers from mere observers among the subscribers of robot commands."""

from __future__ import annotations

OBSERVERS = ("rosbag2_recorder",)
"""Nodes that subscribe to commands without being controllers. Hidden nodes, e.g. `ros2 topic echo`, are not either."""


def may_be_controller(node_name: str) -> bool:
    """Return whether a subscriber of commands may execute them, rather than only observe."""
    return not node_name.startswith("_") and node_name not in OBSERVERS
