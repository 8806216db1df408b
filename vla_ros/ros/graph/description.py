"""The graph as data: which nodes run, with which parameters, in which order. Imports no ROS.

The runner starts it as plain processes, the launch files as launch actions, both from `config/graph.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.ros.graph.processes import PROCESSES, SEPARATE, SHARED, processes_of
from vla_ros.yaml_files import read_yaml

GRAPH_FILE = "config/graph.yaml"

EXTERNAL = "external"
"""External program that offers the topics and services of a simulated robot (docs/simulators.md); not started here."""

SIMULATORS = ("", "mujoco", "gazebo", EXTERNAL)
"""Possible replacements of the robot; "" is the real robot."""

ROBOT_ONLY = "none"
"""Value of `simulation` for a node that a simulator replaces."""

TRANSFORM_SOURCES = ("own", "robot_state_publisher", "none")
"""Publishers of /tf, /tf_static and /robot_description; "own" is this package."""

Value = bool | int | float | str

FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
"""Accepted texts for a bool, in lower case; any other text is refused."""

_NODE_LINES = (
    "name",
    "executable",
    "simulation",
    "required",
    "restarts",
    "configure_timeout",
    "activate_timeout",
    "parameters",
)
_OPTIONAL_LINES = ("when", "images", "shared_memory", "process")


def module_of(executable: str) -> str:
    """Return the module of an executable: in `vla_ros.nodes`, or, for a name with dots, below `vla_ros`."""
    return f"vla_ros.{executable}" if "." in executable else f"vla_ros.nodes.{executable}"


@dataclass(frozen=True)
class NodeDescription:
    """One node of the graph.

    Attributes:
        name: Name of the node in ROS.
        executable: Installed as `lib/vla_ros/<executable>`; module `vla_ros.nodes.<executable>`.
        simulation: Simulator that it belongs to, "mujoco" or "gazebo"; omitted without that one. "none": omitted with
            either. "": always runs.
        required: The graph ends when this node ends.
        restarts: Maximum number of restarts after a crash.
        configure_timeout: Maximum time for the process to appear and configure, s.
        activate_timeout: Maximum time to activate, s.
        parameters: ROS parameters.
        when: The node is omitted unless each of these arguments has this value.
        remappings: Maps topics to topics.
        prefix: Command prefix of its process.
        images: It publishes images, so its process needs a shared-memory segment large enough for them.
        shared_memory: Its local communication may use shared memory, where one process can block another.
        process: Name of the process that it shares with the other nodes that name it; "": a separate process.
    """

    name: str
    executable: str
    simulation: str
    required: bool
    restarts: int
    configure_timeout: float
    activate_timeout: float
    parameters: Mapping[str, Value]
    when: Mapping[str, Value] = field(default_factory=dict)
    remappings: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    images: bool = True
    shared_memory: bool = True
    process: str = ""

    @property
    def module(self) -> str:
        """Module for `python -m`."""
        return module_of(self.executable)

    def parameter_file(self) -> str:
        """Return the text of a ROS 2 parameter file for this node."""
        return yaml.safe_dump({self.name: {"ros__parameters": dict(self.parameters)}}, sort_keys=True)


@dataclass(frozen=True)
class Graph:
    """The nodes to run and their arguments.

    Attributes:
        arguments: Arguments that node parameters may refer to, with their defaults.
        nodes: Nodes in start order.
        simulation: Simulator used when the caller requests a simulation without naming one.
    """

    arguments: Mapping[str, Value]
    nodes: tuple[NodeDescription, ...]
    simulation: str = "mujoco"

    def without(self, name: str) -> Graph:
        """Return the graph without the node called `name`, which something else replaces."""
        return replace(self, nodes=tuple(node for node in self.nodes if node.name != name))

    def simulator(self, simulation: bool | str = True) -> str:
        """Return what replaces the robot, one of `SIMULATORS`.

        Args:
            simulation: Its name; True: the graph's default; False or "": the real robot.

        Raises:
            ContractError: when it is unknown.
        """
        wanted = simulation if isinstance(simulation, str) else self.simulation if simulation else ""
        if wanted not in SIMULATORS:
            raise ContractError(f"simulation is '{wanted}', expected one of {list(SIMULATORS)}")
        return wanted

    def resolve(
        self, arguments: Mapping[str, Any] | None = None, *, simulation: bool | str = True
    ) -> tuple[NodeDescription, ...]:
        """Return the nodes with "$name" replaced by the arguments.

        Args:
            arguments: Override the defaults; texts are converted to the type of the default, as launch files need.
            simulation: See `simulator`; nodes of other simulators are omitted, and with "external" those of all.

        Raises:
            ContractError: when an argument (it is named) does not exist or convert, or the simulator is unknown.
        """
        wanted = self.simulator(simulation)
        belongs = {"": ("", ROBOT_ONLY), EXTERNAL: ("", ROBOT_ONLY, EXTERNAL)}.get(wanted, ("", wanted))
        given = dict(arguments or {})
        if unknown := set(given) - set(self.arguments):
            raise ContractError(f"unknown arguments {sorted(unknown)}; the graph has {sorted(self.arguments)}")
        values = dict(self.arguments) | {key: _convert(key, given[key], self.arguments[key]) for key in given}
        if wanted == "mujoco" and values.get("command_clock") == "auto" and values["real_time_factor"] == 1.0:
            values["command_clock"] = "system"  # the simulated controllers use the machine's time as their own
        if "tf" in values:
            values["tf"] = _transform_source(values["tf"], wanted)
        separate = _process_layout(values.get("processes", SHARED)) == SEPARATE
        return tuple(
            replace(
                node,
                parameters=_substitute(node.parameters, values),
                process="" if separate else node.process,
            )
            for node in self.nodes
            if node.simulation in belongs and all(values.get(name) == value for name, value in node.when.items())
        )


def _transform_source(text: Value, simulation: str) -> str:
    """Return the publisher of the transform tree; robot drivers and Gazebo's launch file mostly provide their own.

    Raises:
        ContractError: when it is none of `TRANSFORM_SOURCES`, "auto" or "any".
    """
    source = {"auto": "own" if simulation == "mujoco" else "none", "any": "own"}.get(str(text), str(text))
    if source not in TRANSFORM_SOURCES:
        raise ContractError(f"argument tf: got {text!r}, expected auto, any or one of {list(TRANSFORM_SOURCES)}")
    return source


def _process_layout(text: Value) -> str:
    """Return whether nodes share processes; a graph without the argument is used as its `process` lines say.

    Raises:
        ContractError: when it is none of `PROCESSES`.
    """
    if text not in PROCESSES:
        raise ContractError(f"argument processes: got {text!r}, expected one of {list(PROCESSES)}")
    return str(text)


def read_flag(name: str, text: str) -> bool:
    """Parse a bool argument.

    Raises:
        ContractError: when the text is none of `FLAGS`; names the argument.
    """
    if text.lower() not in FLAGS:
        raise ContractError(f"argument {name}: got {text!r}, expected a bool: true or false")
    return FLAGS[text.lower()]


def _convert(name: str, value: Any, default: Value) -> Value:  # noqa: ANN401 (a text or the value itself)
    kind = type(default)
    if type(value) is kind:
        return value
    if kind is bool and isinstance(value, str):
        return read_flag(name, value)
    try:
        if kind is not bool and isinstance(value, str):
            return kind(value)
    except ValueError:
        pass
    if kind is float and type(value) is int:
        return float(value)
    article = "an" if kind is int else "a"
    raise ContractError(f"argument {name}: got {value!r}, expected {article} {kind.__name__} such as {default!r}")


def _substitute(parameters: Mapping[str, Value], values: Mapping[str, Value]) -> dict[str, Value]:
    resolved = {}
    for name, value in parameters.items():
        if isinstance(value, str) and value.startswith("$"):
            if value[1:] not in values:
                raise ContractError(f"parameter {name}: no argument '{value[1:]}'; the graph has {sorted(values)}")
            value = values[value[1:]]
        resolved[name] = value
    return resolved


def load_graph(path: str | Path = GRAPH_FILE) -> Graph:
    """Read the graph description.

    Raises:
        ContractError: when the file is absent, not YAML, or a node has missing or unknown lines.
    """
    try:
        content = read_yaml(share_file(path), "graph description")
    except FileNotFoundError as error:
        raise ContractError(f"no graph description: {error}") from error
    if not isinstance(content, Mapping) or set(content) - {"simulation"} != {"arguments", "nodes"}:
        raise ContractError(f"{path}: expected the lines 'arguments' and 'nodes', and where needed 'simulation'")
    simulation = content.get("simulation", Graph.simulation)
    if simulation not in SIMULATORS:
        raise ContractError(f"{path}: simulation is {simulation!r}, expected one of {list(SIMULATORS)}")
    nodes = tuple(_node(path, entry) for entry in content["nodes"])
    if len({node.name for node in nodes}) != len(nodes):
        raise ContractError(f"{path}: a name stands twice in {[node.name for node in nodes]}")
    processes_of(nodes)
    graph = Graph(arguments=dict(content["arguments"]), nodes=nodes, simulation=simulation)
    graph.resolve()  # reports a "$name" without an argument now rather than when the robot is ready
    for node in nodes:
        if unknown := set(node.when) - set(graph.arguments):
            raise ContractError(
                f"{path}: {node.name}: when names {sorted(unknown)}, the arguments are {sorted(graph.arguments)}"
            )
    return graph


def _node(path: str | Path, entry: Any) -> NodeDescription:  # noqa: ANN401 (whatever YAML holds)
    if not isinstance(entry, Mapping) or set(entry) - set(_OPTIONAL_LINES) != set(_NODE_LINES):
        got = sorted(entry) if isinstance(entry, Mapping) else entry
        raise ContractError(
            f"{path}: a node has the lines {got}, expected exactly {sorted(_NODE_LINES)} and, where needed, "
            f"{sorted(_OPTIONAL_LINES)}"
        )
    flags = {name: entry.get(name, True) for name in ("images", "shared_memory")}
    for name, value in flags.items():
        if type(value) is not bool:
            raise ContractError(f"{path}: {entry['name']}: {name} is {value!r}, expected true or false")
    if entry["simulation"] not in (*SIMULATORS, ROBOT_ONLY):
        expected = (*SIMULATORS, ROBOT_ONLY)
        raise ContractError(f"{path}: {entry['name']}: simulation is {entry['simulation']!r}, expected {expected}")
    process = entry.get("process", "")
    if not isinstance(process, str) or not re.fullmatch(r"\w*", process, re.ASCII):
        raise ContractError(
            f"{path}: {entry['name']}: process is {process!r}, expected a name of letters, digits and underscores"
        )
    when = entry.get("when") or {}
    if not isinstance(when, Mapping):
        raise ContractError(f"{path}: {entry['name']}: when is {when!r}, expected a mapping of arguments to values")
    return NodeDescription(
        name=str(entry["name"]),
        executable=str(entry["executable"]),
        simulation=str(entry["simulation"]),
        required=bool(entry["required"]),
        restarts=int(entry["restarts"]),
        configure_timeout=float(entry["configure_timeout"]),
        activate_timeout=float(entry["activate_timeout"]),
        parameters=dict(entry["parameters"] or {}),
        when=dict(when),
        images=flags["images"],
        shared_memory=flags["shared_memory"],
        process=process,
    )
