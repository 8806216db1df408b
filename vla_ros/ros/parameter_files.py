"""Users' ROS 2 parameter files for the launch: every section must match a node and contradict no argument.

rcl applies a section to the nodes whose full names it matches, and silently ignores any other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.ros.messages.interfaces import namespaced
from vla_ros.yaml_files import read_yaml


def parameters_file(
    path: str, nodes: Mapping[str, Mapping[str, Any]], namespace: str = "", left_out: Collection[str] = ()
) -> Path | None:
    """Validate the user's parameter file for the nodes of the launch; return its path, None for "".

    It may set what the launch arguments do not. If both set a parameter to different values, the file is refused, so
    that no value is silently overridden.

    Args:
        path: The file.
        nodes: Maps the name of each node that gets the file to its parameters as set by the launch arguments.
        namespace: Namespace of the nodes, without outer slashes; "" for none.
        left_out: Names of nodes that this launch could start but does not, e.g. those of a simulator: one file may
            serve both cases.

    Raises:
        ContractError: when the file does not exist, is not a ROS 2 parameter file, has a section that matches no node,
            or contradicts an argument.
    """
    if not path:
        return None
    file, sections = parameter_sections(path)
    for section, parameters in sections:
        reached = [name for name in nodes if section_matches(section, namespaced(f"/{name}", namespace))]
        if not reached and not any(section_matches(section, namespaced(f"/{name}", namespace)) for name in left_out):
            raise ContractError(f"{path}: {_unreached(section, {*nodes, *left_out}, namespace)}")
        for name in reached:
            for parameter, value in parameters.items():
                if parameter in nodes[name] and nodes[name][parameter] != value:
                    raise ContractError(
                        f"{path}: {parameter} of {name} is {value!r}, an argument of the launch makes it "
                        f"{nodes[name][parameter]!r}: leave it out of the file and give the argument"
                    )
    return file


def parameter_sections(path: str) -> tuple[Path, list[tuple[str, Mapping[str, Any]]]]:
    """Return the path of the file, and (name as written, parameters) of each section.

    Raises:
        ContractError: when it does not exist, or is not a ROS 2 parameter file.
    """
    try:
        file = share_file(Path(path).expanduser())
        return file, _sections(path, read_yaml(file, "params_file"))
    except FileNotFoundError as error:
        raise ContractError(f"params_file: {error}") from error


def section_matches(section: str, full_name: str) -> bool:
    """Return whether rcl applies a section to the node with this full name.

    `*` matches one token of the name and `**` any number of them; a name without a leading slash is below the root.
    """
    parts = section.strip("/").split("/")
    return bool(re.fullmatch("".join(_PATTERNS.get(part, f"/{re.escape(part)}") for part in parts), full_name))


_PATTERNS = {"**": r"(?:/\w+)*", "*": r"/\w+"}


def _unreached(section: str, names: Collection[str], namespace: str) -> str:
    """Explain that a section matches no node, and how to write it."""
    name = section.rsplit("/", 1)[-1]
    if name not in names and name not in _PATTERNS:
        return f"section '{section}' names no node of this launch, expected one of {sorted(names)}"
    where = f"in the namespace /{namespace}" if namespace else "in no namespace"
    right = namespaced(f"/{name}", namespace)
    anywhere = "" if name in _PATTERNS else f", or '/**/{name}' for any namespace"
    return f"section '{section}' reaches no node, those of this launch are {where}: write '{right}'{anywhere}"


def _sections(path: str, content: Any, above: str = "") -> list[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401 (any YAML)
    """Return (name, parameters) of each section; a section of sections is a namespace."""
    if not isinstance(content, Mapping):
        raise ContractError(f"{path}: expected sections of nodes with ros__parameters, got {type(content).__name__}")
    sections = []
    for key, section in content.items():
        name = f"{above}/{str(key).strip('/')}" if above else str(key)
        if isinstance(section, Mapping) and isinstance(parameters := section.get("ros__parameters"), Mapping):
            sections.append((name, parameters))
        elif isinstance(section, Mapping) and section and "ros__parameters" not in section:
            sections += _sections(path, section, name)
        else:
            raise ContractError(f"{path}: section '{name}' has no ros__parameters with parameters below")
    return sections
