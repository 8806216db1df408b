"""ROS 2 parameter files that users give to the launch: every section must reach a node, and contradict no argument.

rcl takes a section for the nodes whose full name its name matches, and ignores any other without a word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vla_ros.errors import ContractError
from vla_ros.nodes.interfaces import namespaced
from vla_ros.paths import share_file
from vla_ros.yaml_files import read_yaml


def parameters_file(
    path: str, nodes: Mapping[str, Mapping[str, Any]], namespace: str = "", left_out: Collection[str] = ()
) -> Path | None:
    """Return the ROS 2 parameter file that the user gave for the nodes of the launch; None for "".

    It sets what the arguments of the launch do not: what both set, and differently, is refused, so that no value is
    overruled without a word.

    Args:
        path: The file.
        nodes: Parameters by name, as the arguments of the launch set them, of every node that is given the file.
        namespace: That they are in, without slashes around it; "" for none.
        left_out: Names of nodes that this launch could start and does not, such as those of a simulator: one file may
            serve both.

    Raises:
        ContractError: when it is not there, no ROS 2 parameter file, has a section that reaches no node, or contradicts
            an argument.
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
    """Return the file of a path, and (name as it is written, parameters) of each of its sections.

    Raises:
        ContractError: when it is not there, or no ROS 2 parameter file.
    """
    try:
        file = share_file(Path(path).expanduser())
        return file, _sections(path, read_yaml(file, "params_file"))
    except FileNotFoundError as error:
        raise ContractError(f"params_file: {error}") from error


def section_matches(section: str, full_name: str) -> bool:
    """Tell whether rcl takes a section for the node of this full name.

    `*` stands for one part of the name and `**` for any number of them; a name without a slash before it is below the
    root.
    """
    parts = section.strip("/").split("/")
    return bool(re.fullmatch("".join(_PATTERNS.get(part, f"/{re.escape(part)}") for part in parts), full_name))


_PATTERNS = {"**": r"(?:/\w+)*", "*": r"/\w+"}


def _unreached(section: str, names: Collection[str], namespace: str) -> str:
    """Say that a section reaches no node, and how to write it."""
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
