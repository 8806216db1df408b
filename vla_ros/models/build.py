"""The table of networks: a name, and where the class lies; nothing is imported before it is asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from vla_ros.errors import ContractError

MODELS = {
    "foundation": "vla_ros.models.foundation:FoundationModel",
    "rt2": "vla_ros.models.rt2:Rt2Model",
    "unified": "vla_ros.models.unified:UnifiedModel",
    "diffusion": "vla_ros.models.diffusion:DiffusionModel",
    "flow": "vla_ros.models.flow:FlowModel",
    "clip": "vla_ros.models.clip:ClipModel",
    "grounded": "vla_ros.models.grounded:GroundedModel",
    "memory_efficient": "vla_ros.models.memory_efficient:MemoryEfficientModel",
    "real_time": "vla_ros.models.real_time:RealTimeModel",
    "keypoint": "vla_ros.models.keypoint:KeypointModel",
}
"""Name to `module:Class`; the class has a `from_config` that takes plain values."""


def build_model(name: str, config: Mapping[str, Any]) -> Any:  # noqa: ANN401 (torch is not imported here)
    """Return the network called `name`, made from plain values, with random weights.

    Raises:
        ContractError: for an unknown name (with near ones) or an invalid configuration.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.3)
        raise ContractError(f"no model '{name}'; did you mean one of {near or sorted(MODELS)}?")
    module, _, attribute = MODELS[name].partition(":")
    return getattr(importlib.import_module(module), attribute).from_config(config)
