"""Disables mixed precision for parts of a network that need fp32; a no-op on the meta device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager[None]:
    """Return a context without autocast for computations on the device of `like`."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)
