"""Who of those that listen to robot commands may carry them out."""

from __future__ import annotations

OBSERVERS = ("rosbag2_recorder",)
"""Nodes that listen to commands and are no controllers; so are hidden ones, as those of `ros2 topic echo`."""


def may_be_controller(node_name: str) -> bool:
    """Tell a node that may carry out commands from one that only looks at them."""
    return not node_name.startswith("_") and node_name not in OBSERVERS
