"""Registry of networks: name and class path; a class is imported only when requested.

Installed packages add networks through the entry point group `vla_ros.models`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from copy import deepcopy
from importlib.metadata import entry_points
from typing import Any

from vla_ros.errors import ContractError
from vla_ros.naming import expected_names

MODELS = {
    "foundation": "vla_ros.models.networks.foundation:FoundationModel",
    "rt2": "vla_ros.models.networks.rt2:Rt2Model",
    "unified": "vla_ros.models.networks.unified:UnifiedModel",
    "diffusion": "vla_ros.models.networks.diffusion:DiffusionModel",
    "flow": "vla_ros.models.networks.flow:FlowModel",
    "clip": "vla_ros.models.networks.clip:ClipModel",
    "grounded": "vla_ros.models.networks.grounded:GroundedModel",
    "memory_efficient": "vla_ros.models.networks.memory_efficient:MemoryEfficientModel",
    "real_time": "vla_ros.models.networks.real_time:RealTimeModel",
    "keypoint": "vla_ros.models.networks.keypoint:KeypointModel",
    "compositional": "vla_ros.models.networks.compositional:CompositionalModel",
}
"""`module:Class` of each network, a `contract.VlaModel`, by name."""

GROUP = "vla_ros.models"
"""Entry point group for networks of installed packages; none replaces one of `MODELS`."""

SIZES = ("tiny", "base", "full")
"""Sizes of a network; `base` is the configuration's defaults; see also `VlaModel.TINY` and `VlaModel.FULL`."""


def model_class(name: str) -> Any:  # noqa: ANN401 (torch is not imported here)
    """Return the class of the network called `name`.

    Raises:
        ContractError: for an unknown name, suggesting similar ones.
    """
    found = {**{point.name: point.value for point in entry_points(group=GROUP)}, **MODELS}
    if name not in found:
        raise ContractError(f"no model '{name}'; {expected_names(name, sorted(found))}")
    module, _, attribute = found[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def build_model(name: str, config: Mapping[str, Any]) -> Any:  # noqa: ANN401 (as above)
    """Build the network called `name` from plain values, with random weights.

    Raises:
        ContractError: for an unknown name, suggesting similar ones, or an invalid configuration.
    """
    values = dict(config)
    adapters = values.pop("adapters", None)  # present if the network was fine-tuned with adapters
    network = model_class(name).from_config(values)
    if adapters is not None:
        importlib.import_module("vla_ros.models.layers.adapters").insert_adapters(network, **adapters)
    return network


def sized_config(name: str, size: str, needed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the network `name` at a size, for the data that `needed` describes.

    Args:
        name: Name in the registry.
        size: "tiny" (trains on a CPU), "base" or "full" (the intended size).
        needed: Fields determined by the data: `cameras`, `vocabulary`, `state_width`, `horizon`, optionally `words`.

    Raises:
        ContractError: for an unknown name or size.
    """
    network = model_class(name)
    if size not in SIZES:
        raise ContractError(f"no size '{size}', expected one of {', '.join(SIZES)}")
    lines = {"tiny": network.TINY, "base": {}, "full": network.FULL}[size]
    return {**deepcopy(dict(lines)), **needed}
