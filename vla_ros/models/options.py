"""Turns user options for a network into the plain values that configure it, at training and at loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vla_ros.errors import ContractError
from vla_ros.models.build import model_class, sized_config
from vla_ros.models.configuration import ReadingConfig
from vla_ros.models.layers.published import name_sources
from vla_ros.yaml_files import parse_yaml

SIZE_LINE = "size"
"""The one option that is not part of a configuration: "tiny", "base" (the default) or "full"."""


def model_values(
    name: str, needed: Mapping[str, Any], options: Mapping[str, Any], sentence_length: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the configuration of the network `name`, and the sources of pretrained weights by configuration key.

    Args:
        name: Name in the table of networks.
        needed: Values determined by the data: `cameras`, `vocabulary`, `state_width`, `horizon`.
        options: `size`, and configuration values; a string for a key in `VlaModel.BACKBONES` names a published network,
            as a hub identifier (downloaded) or a local folder.
        sentence_length: Padded length of instructions, words; a network with learned word positions gets at least as
            many.

    Raises:
        ContractError: for an unknown name or size, or an unavailable published network.
    """
    lines = {key: value for key, value in options.items() if key != SIZE_LINE}
    network = model_class(name)
    values = {**sized_config(name, str(options.get(SIZE_LINE, "base")), needed), **lines}
    if issubclass(network.Config, ReadingConfig) and "words" not in lines:
        values["words"] = max(int(values.get("words", network.Config.words)), sentence_length)
    return name_sources(network, values)


def read_options(lines: Sequence[str]) -> dict[str, Any]:
    """Parse options of the form "name=value", with YAML values: "depth=2", "vision=folder/of/a/backbone".

    Raises:
        ContractError: when the name is missing, or the value is not YAML.
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
