"""A simulator that somebody else wrote: it is there when it starts, under a name of its own, and nobody manages it."""

import sys

from vla_ros.nodes.sim_node import SimNode
from vla_ros.ros.lifecycle import run_node


def make() -> SimNode:
    node = SimNode()
    node.trigger_configure()
    node.trigger_activate()
    return node


if __name__ == "__main__":
    sys.exit(run_node(make))
