"""Check for running nodes with the same names: two graphs with the same names cannot be distinguished.

Service names contain the node names, so a request for a node of one graph is answered by the node of the other: what
was started appears configured and active, or broken, and is neither.

Run the check before starting anything. A new participant discovers only live ones, so the nodes of a graph killed a
moment ago, which others remember until their lease expires, do not count.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from rclpy.node import Node

from vla_ros.ros.clock.publishers import other_clock_publishers
from vla_ros.ros.transitions import GraphError

DISCOVERY = 3.0
"""Maximum discovery time, s: up to 1.6 s was observed on a machine overloaded fourfold."""

COMPANIONS = 0.5
"""Time to wait for further nodes after the first was found, s; they are only listed in the error."""

_POLL = 0.05


def require_unique_names(
    node: Node, names: Iterable[str], patience: float = DISCOVERY, *, own_clock: bool = False
) -> None:
    """Check for `patience` s that no node of these names exists; `node` has just joined the domain.

    Args:
        node: Node of this process; it need not be spun.
        names: Full names of the nodes about to be started, e.g. "/left/safety_node".
        patience: Duration of the check, s.
        own_clock: A simulation is among them, so no other node may publish /clock.

    Raises:
        GraphError: lists the existing nodes and the domain, and says what to do.
    """
    wanted = set(names)
    end = time.monotonic() + patience
    taken: set[str] = set()
    clock = ""
    while wanted and not taken and not clock and time.monotonic() < end:
        time.sleep(_POLL)
        taken = wanted & _present(node)
        clock = other_clock_publishers(node) if own_clock else ""
    if taken:
        time.sleep(COMPANIONS)
        taken |= wanted & _present(node)
        raise GraphError(
            f"domain {node.context.get_domain_id()} has {', '.join(sorted(taken))} already: another graph runs there, "
            "and its nodes would be taken for those of this one. End that graph, or choose another domain "
            "(ROS_DOMAIN_ID, --domain) or, for a second arm, another namespace (namespace:=left)"
        )
    if clock:
        time.sleep(COMPANIONS)  # its name may be discovered later than the publisher
        raise GraphError(other_clock_publishers(node) or clock)


def _present(node: Node) -> set[str]:
    return {f"{namespace.rstrip('/')}/{name}" for name, namespace in node.get_node_names_and_namespaces()}
