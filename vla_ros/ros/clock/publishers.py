"""Detect multiple publishers of /clock: with two, every node's time jumps between two simulations.

/clock is per domain, not per arm, so namespaces do not separate them.
"""

from __future__ import annotations

from rclpy.node import Node

CLOCK_TOPIC = "/clock"

NAMELESS = "_NODE_NAME_UNKNOWN_"
"""Placeholder of rclpy for a node that has been discovered, but not yet by name."""


def clock_publishers(node: Node) -> list[str]:
    """Return the sorted, unique full names of the nodes that publish /clock in `node`'s domain."""
    infos = node.get_publishers_info_by_topic(CLOCK_TOPIC)
    return sorted({_full_name(info.node_namespace, info.node_name) for info in infos})


def several_clocks(node: Node) -> str:
    """Return an error that names the clock's publishers if there are several, else ""."""
    names = clock_publishers(node)
    return "" if len(names) < 2 else _sentence(node, " and ".join(names))


def other_clock_publishers(node: Node) -> str:
    """Return an error that names the clock's publishers other than `node`, or ""."""
    own = f"{node.get_namespace().rstrip('/')}/{node.get_name()}"
    names = [name for name in clock_publishers(node) if name != own]
    return _sentence(node, f"{' and '.join(names)} already") if names else ""


def _full_name(namespace: str, name: str) -> str:
    return "a node without a name" if name == NAMELESS else f"{namespace.rstrip('/')}/{name}"


def _sentence(node: Node, who: str) -> str:
    return (
        f"{node.resolve_topic_name(CLOCK_TOPIC)} is published by {who}: a domain has one clock. End one of them, or "
        "give one simulation a domain of its own (ROS_DOMAIN_ID)"
    )
