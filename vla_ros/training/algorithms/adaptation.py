"""Parameter-efficient fine-tuning: LoRA by `peft`, and bottleneck adapters; all other weights are frozen."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from vla_ros.errors import VlaError
from vla_ros.models.layers.adapters import insert_adapters

METHODS = ("none", "lora", "adapters")


@dataclass(frozen=True)
class Adaptation:
    """Fine-tuning method of a trained network.

    Attributes:
        method: "none": every weight; "lora" (Hu et al. 2022): low-rank changes of linear layers, merged at the end;
            "adapters" (Houlsby et al. 2019): small bottlenecks after linear layers, which stay in the network.
        rank: Rank of the change, or width of the bottleneck.
        scale: LoRA's alpha over rank.
        layers: Regular expression for the full name of a linear layer.
    """

    method: str = "none"
    rank: int = 8
    scale: float = 2.0
    layers: str = ".*"

    def __post_init__(self) -> None:
        if self.method not in METHODS or self.rank < 1 or self.scale <= 0.0:
            raise VlaError(
                f"method '{self.method}', rank {self.rank}, scale {self.scale}: expected one of {METHODS}, a rank "
                "of at least 1 and a positive scale"
            )


def adapt(network: nn.Module, adaptation: Adaptation) -> list[str]:
    """Prepare the network in place so that only added weights are trained; return the names of adapted layers.

    The output is unchanged at first: the added parts are initialized to zero.

    Raises:
        VlaError: when no linear layer matches.
    """
    if adaptation.method == "none":
        return []
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(adaptation.layers, name)
    ]
    if not names:
        known = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        raise VlaError(f"layers '{adaptation.layers}' matches none of {known}")
    if adaptation.method == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(
            r=adaptation.rank, lora_alpha=round(adaptation.scale * adaptation.rank), target_modules=names
        )
        inject_adapter_in_model(config, network)
    else:
        network.requires_grad_(False)
        insert_adapters(network, names, adaptation.rank)
    return names


def merge_lora(network: nn.Module) -> nn.Module:
    """Merge every low-rank change into its layer, in place, so that the network is a plain one again."""
    from peft.tuners.lora import LoraLayer

    for name, module in [*network.named_modules()]:
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, module.get_base_layer())
    return network
