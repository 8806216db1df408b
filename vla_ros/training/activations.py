"""Activation checkpointing (Chen et al. 2016): saves memory at the cost of a second forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from vla_ros.errors import VlaError
from vla_ros.models.layers.attention import Block, KeyValueCache


def checkpoint_activations(network: nn.Module) -> int:
    """Checkpoint the activations of transformer blocks and convolution stacks; return their number.

    Parameters and results are unchanged. A block that extends a cache is not checkpointed: it must not run twice.

    Raises:
        VlaError: when the network has neither.
    """
    found = _choose(network)
    if not found:
        raise VlaError(f"{type(network).__name__} has no transformer block and no stack of convolutions to checkpoint")
    for module in found:
        module.forward = _forgetful(module.forward)
    return len(found)


def _choose(module: nn.Module) -> list[nn.Module]:
    """Return the outermost modules to checkpoint."""
    if isinstance(module, Block):
        return [module]
    if isinstance(module, nn.Sequential) and any(isinstance(part, nn.Conv2d) for part in module):
        return [module]
    return [one for child in module.children() for one in _choose(child)]


def _forgetful(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (whatever the module takes)
        if any(isinstance(value, KeyValueCache) for value in (*args, *kwargs.values())):
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run
