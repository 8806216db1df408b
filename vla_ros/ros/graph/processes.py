"""Assign the graph's nodes to processes, and build the arguments of each process. Imports no ROS.

A node has its own process, unless its `process` line names one that others name as well. The safety node, which must
survive whatever happens to the others, and the simulator are always alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from vla_ros.errors import ContractError

if TYPE_CHECKING:
    from vla_ros.ros.graph.description import NodeDescription

SEPARATE, SHARED = "separate", "shared"
PROCESSES = (SEPARATE, SHARED)
"""Values of the argument `processes`: one process per node, or as the `process` lines say."""

CONTAINER = "node_container"
"""Executable that runs the nodes of a shared process."""

ALONE = ("safety_node", "sim_node")
"""Executables that share a process with no other node."""


@dataclass(frozen=True)
class ProcessDescription:
    """One process of the graph.

    Attributes:
        name: Name of the process; that of its node if there is only one.
        nodes: Its nodes, in the order of the graph.
    """

    name: str
    nodes: tuple[NodeDescription, ...]

    @property
    def shared(self) -> bool:
        """Whether it runs several nodes."""
        return len(self.nodes) > 1

    @property
    def title(self) -> str:
        """Display name."""
        return f"{self.name} ({', '.join(node.name for node in self.nodes)})" if self.shared else self.name

    @property
    def executable(self) -> str:
        """Installed as `lib/vla_ros/<executable>`; module `vla_ros.nodes.<executable>`."""
        return CONTAINER if self.shared else self.nodes[0].executable

    @property
    def required(self) -> bool:
        """Whether the graph ends when this process ends."""
        return self.nodes[0].required

    @property
    def restarts(self) -> int:
        """Maximum number of restarts after a crash."""
        return self.nodes[0].restarts

    @property
    def prefix(self) -> tuple[str, ...]:
        """Command prefix."""
        return self.nodes[0].prefix

    @property
    def shared_memory(self) -> bool:
        """Whether any of its nodes communicates through shared memory on this machine."""
        return any(node.shared_memory for node in self.nodes)

    def arguments(self) -> list[str]:
        """Return its arguments before those of ROS 2: the executables that a container runs."""
        return [node.executable for node in self.nodes] if self.shared else []

    def rules(self) -> list[str]:
        """Return its remapping rules; in a shared process, each applies to its own node only."""
        if not self.shared:
            node = self.nodes[0]
            return [f"{name}:={to}" for name, to in {"__node": node.name, **node.remappings}.items()]
        return [
            *(f"{node.executable}:__node:={node.name}" for node in self.nodes),
            *(f"{node.name}:{name}:={to}" for node in self.nodes for name, to in node.remappings.items()),
        ]

    def parameter_file(self, namespace: str = "") -> str:
        """Return a ROS 2 parameter file with one section per node in `namespace`, as text."""
        sections: dict[str, Any] = {}
        for node in self.nodes:
            name = f"/{namespace}/{node.name}" if namespace else node.name
            sections[name] = {"ros__parameters": dict(node.parameters)}
        return yaml.safe_dump(sections, sort_keys=True)


def processes_of(nodes: Sequence[NodeDescription]) -> tuple[ProcessDescription, ...]:
    """Return the processes of `nodes`, in the order of their first nodes.

    Raises:
        ContractError: when nodes cannot share the process that they name.
    """
    groups: dict[str, list[NodeDescription]] = {}
    for node in nodes:
        groups.setdefault(node.process or node.name, []).append(node)
    processes = [
        ProcessDescription(name if len(members) > 1 else members[0].name, tuple(members))
        for name, members in groups.items()
    ]
    for process in processes:
        _require_company(process)
    return tuple(processes)


def _require_company(process: ProcessDescription) -> None:
    nodes = process.nodes
    if not process.shared:
        return
    for node in nodes:
        if node.executable in ALONE:
            others = ", ".join(other.name for other in nodes if other is not node)
            raise ContractError(
                f"process {process.name}: {node.name} ({node.executable}) runs alone and cannot share it with "
                f"{others}: name another process"
            )
    twice = [name for name, count in Counter(node.executable for node in nodes).items() if count > 1]
    if twice:  # both would get their name from the rule of the one executable
        raise ContractError(f"process {process.name}: {twice[0]} stands in it twice, expected once: name another one")
    if len({(node.required, node.restarts, node.prefix) for node in nodes}) > 1:
        told = ", ".join(f"{node.name} {node.required}/{node.restarts}" for node in nodes)
        raise ContractError(
            f"process {process.name}: its nodes end and start together, expected one `required` and `restarts` for "
            f"all of them, got {told}"
        )
