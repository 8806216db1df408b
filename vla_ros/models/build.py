"""The table of networks: a name, and where the class lies; nothing is imported before it is asked for.

Networks of installed packages join it through the entry point group `vla_ros.models`.
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
"""Name to `module:Class`, a `contract.VlaModel`."""

GROUP = "vla_ros.models"
"""Entry point group in which an installed package offers networks; none replaces one of `MODELS`."""

SIZES = ("tiny", "base", "full")
"""`base` is what a configuration says by itself; see `VlaModel.TINY` and `VlaModel.FULL`."""


def model_class(name: str) -> Any:  # noqa: ANN401 (torch is not imported here)
    """Return the class of the network called `name`.

    Raises:
        ContractError: for an unknown name, with near ones.
    """
    found = {**{point.name: point.value for point in entry_points(group=GROUP)}, **MODELS}
    if name not in found:
        raise ContractError(f"no model '{name}'; {expected_names(name, sorted(found))}")
    module, _, attribute = found[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def build_model(name: str, config: Mapping[str, Any]) -> Any:  # noqa: ANN401 (as above)
    """Return the network called `name`, made from plain values, with random weights.

    Raises:
        ContractError: for an unknown name (with near ones) or an invalid configuration.
    """
    values = dict(config)
    adapters = values.pop("adapters", None)  # of a network that was fine-tuned with them
    network = model_class(name).from_config(values)
    if adapters is not None:
        importlib.import_module("vla_ros.models.layers.adapters").insert_adapters(network, **adapters)
    return network


def sized_config(name: str, size: str, needed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the network `name` at a size, for the data that `needed` describes.

    Args:
        name: In the table.
        size: "tiny" (trains on a CPU), "base" or "full" (as large as it is meant to be).
        needed: Lines that the data decide: `cameras`, `vocabulary`, `state_width`, `horizon`, perhaps `words`.

    Raises:
        ContractError: for an unknown name or size.
    """
    network = model_class(name)
    if size not in SIZES:
        raise ContractError(f"no size '{size}', expected one of {', '.join(SIZES)}")
    lines = {"tiny": network.TINY, "base": {}, "full": network.FULL}[size]
    return {**deepcopy(dict(lines)), **needed}
