"""Bottleneck adapters (Houlsby et al. 2019): a small residual MLP after a frozen linear layer."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional

from vla_ros.errors import ContractError


class AdaptedLinear(nn.Module):
    """y + up(relu(down(y))) with y = base(x); `up` is initialized to zero, so that the network starts unchanged."""

    def __init__(self, base: nn.Linear, width: int) -> None:
        """Add a bottleneck of `width` after `base`."""
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.out_features, width)
        self.up = nn.Linear(width, base.out_features)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self.base.in_features

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.base.out_features

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        output: Tensor = self.base(values)
        change: Tensor = self.up(functional.relu(self.down(output)))
        return output + change


def insert_adapters(network: nn.Module, layers: Iterable[str], width: int) -> None:
    """Add an adapter after each linear layer named in `layers`, in place.

    Raises:
        ContractError: when a name is not a linear layer of the network.
    """
    for name in layers:
        try:
            base = network.get_submodule(name)
        except AttributeError as error:
            raise ContractError(f"adapters: the network has no layer '{name}'") from error
        if not isinstance(base, nn.Linear):
            raise ContractError(f"adapters: '{name}' is a {type(base).__name__}, expected a Linear")
        parent, _, last = name.rpartition(".")
        adapted = AdaptedLinear(base, width).to(base.weight.device)
        setattr(network.get_submodule(parent), last, adapted)
