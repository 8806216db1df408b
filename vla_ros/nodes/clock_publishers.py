"""Who publishes /clock: with two of them the time of every node in the domain jumps to and fro between two simulations.

/clock belongs to the domain and not to an arm, so no namespace keeps two of them apart.
"""

from __future__ import annotations

from rclpy.node import Node

CLOCK_TOPIC = "/clock"

NAMELESS = "_NODE_NAME_UNKNOWN_"
"""How rclpy calls a node that has been found, but not yet with its name."""


def clock_publishers(node: Node) -> list[str]:
    """Return the full names of the nodes that publish the clock of `node`'s domain, sorted, each once."""
    infos = node.get_publishers_info_by_topic(CLOCK_TOPIC)
    return sorted({_full_name(info.node_namespace, info.node_name) for info in infos})


def several_clocks(node: Node) -> str:
    """Name the publishers of the clock when there are several; "" when there are not."""
    names = clock_publishers(node)
    return "" if len(names) < 2 else _sentence(node, " and ".join(names))


def foreign_clocks(node: Node) -> str:
    """Name the publishers of the clock beside `node`; "" when there are none."""
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
