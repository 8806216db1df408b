"""From what a user says about a network to the plain values that it is built from, here and when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vla_ros.errors import ContractError
from vla_ros.models.build import model_class, sized_config
from vla_ros.models.configuration import ReadingConfig
from vla_ros.models.published import name_sources
from vla_ros.yaml_files import parse_yaml

SIZE_LINE = "size"
"""The one option that is no line of a configuration: "tiny", "base" (the default) or "full"."""


def model_values(
    name: str, needed: Mapping[str, Any], options: Mapping[str, Any], sentence_length: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of the network `name`, and the sources of published weights by their lines.

    Args:
        name: In the table of networks.
        needed: Lines that the data decide: `cameras`, `vocabulary`, `state_width`, `horizon`.
        options: `size`, and lines of the configuration; a text in a line of `VlaModel.BACKBONES` names a published
            network, as a hub identifier (downloaded) or a local folder.
        sentence_length: Words that sentences are padded to; a network with a place for each has at least so many.

    Raises:
        ContractError: for an unknown name or size, or a published network that cannot be had.
    """
    lines = {key: value for key, value in options.items() if key != SIZE_LINE}
    network = model_class(name)
    values = {**sized_config(name, str(options.get(SIZE_LINE, "base")), needed), **lines}
    if issubclass(network.Config, ReadingConfig) and "words" not in lines:
        values["words"] = max(int(values.get("words", network.Config.words)), sentence_length)
    return name_sources(network, values)


def read_options(lines: Sequence[str]) -> dict[str, Any]:
    """Return options from "name=value" each, the value as YAML has it: "depth=2", "vision=folder/of/a/backbone".

    Raises:
        ContractError: for a line without a name, or with a value that is no YAML.
    """
    options: dict[str, Any] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise ContractError(f"'{line}' is no option of a network, expected name=value")
        try:
            options[name.strip()] = parse_yaml(value)
        except yaml.YAMLError as error:
            raise ContractError(f"option '{name}': {value!r} is no value: {error}") from error
    return options
