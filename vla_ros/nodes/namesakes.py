"""Looks whether nodes of the same names are there already: two graphs of one name cannot be told apart.

The services of the nodes have their names, so a request that is meant for a node of one graph is answered by the node
of the other: what was started looks configured and active, or broken, and is neither.

To be asked before anything is started. Who has just joined a domain hears of the living alone, so the nodes of a graph
that was killed a moment ago, whose names others remember until their lease has run out, do not stand in the way.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from rclpy.node import Node

from vla_ros.nodes.clock_publishers import foreign_clocks
from vla_ros.nodes.transitions import GraphError

DISCOVERY = 3.0
"""So long nodes may take to be found, s: up to 1.6 s was seen on a machine with four times more to do than it can."""

COMPANIONS = 0.5
"""So long it is waited for further ones when the first one has been found, s: they are only named."""

_POLL = 0.05


def require_alone(node: Node, names: Iterable[str], patience: float = DISCOVERY, *, own_clock: bool = False) -> None:
    """Look for `patience` s with the eyes of `node`, which has just joined the domain, whether a name is taken.

    Args:
        node: Of this process; nobody needs to spin it.
        names: Full names of the nodes that are about to be started, such as "/left/safety_node".
        patience: How long to look, s.
        own_clock: A simulation is among them: nobody else may publish /clock.

    Raises:
        GraphError: naming the nodes that are there, the domain, and what to do.
    """
    wanted = set(names)
    end = time.monotonic() + patience
    taken: set[str] = set()
    clock = ""
    while wanted and not taken and not clock and time.monotonic() < end:
        time.sleep(_POLL)
        taken = wanted & _present(node)
        clock = foreign_clocks(node) if own_clock else ""
    if taken:
        time.sleep(COMPANIONS)
        taken |= wanted & _present(node)
        raise GraphError(
            f"domain {node.context.get_domain_id()} has {', '.join(sorted(taken))} already: another graph runs there, "
            "and its nodes would be taken for those of this one. End that graph, or choose another domain "
            "(ROS_DOMAIN_ID, --domain) or, for a second arm, another namespace (namespace:=left)"
        )
    if clock:
        time.sleep(COMPANIONS)  # its name may come after it
        raise GraphError(foreign_clocks(node) or clock)


def _present(node: Node) -> set[str]:
    return {f"{namespace.rstrip('/')}/{name}" for name, namespace in node.get_node_names_and_namespaces()}
