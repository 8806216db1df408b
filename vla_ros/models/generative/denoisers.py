"""Denoising networks for a noisy chunk, given time and context: a transformer and a 1-D U-Net.

Shapes: M chunks, H rows, A columns, D channels per token. Both follow Chi et al. 2023 (Diffusion Policy).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.errors import ContractError
from vla_ros.models.layers.attention import Block
from vla_ros.models.layers.conditioning import Context
from vla_ros.models.layers.encoders import learned_positions, sinusoidal

DENOISERS = ("transformer", "unet")
TIME_SCALE = 1000.0
"""Embedded time of pure noise (data is 0), independent of the schedule: the frequencies expect that range."""


def build_denoiser(kind: str, columns: int, horizon: int, width: int, heads: int, layers: int) -> nn.Module:
    """Return the denoiser `kind`; `layers` is the number of transformer blocks, or of U-Net levels.

    Raises:
        ContractError: for any other kind.
    """
    if kind == "transformer":
        return TransformerDenoiser(columns, horizon, width, heads, layers)
    if kind == "unet":
        return UNetDenoiser(columns, width, layers)
    raise ContractError(f"denoiser '{kind}', expected one of {', '.join(DENOISERS)}")


class _Time(nn.Module):
    """Embeds times (M,), 0 to 1, as (M, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, time: Tensor) -> Tensor:
        embedded = sinusoidal(TIME_SCALE * time, self.width)
        first: Any = self.layers[0]  # nn.Sequential does not say what it holds
        times: Tensor = self.layers(embedded.to(first.weight.dtype))
        return times


class TransformerDenoiser(nn.Module):
    """Transformer over the rows of the chunk, with cross-attention to the context and the time.

    Rows attend to later rows as well: the chunk is sampled as a whole, so no row precedes another.
    """

    def __init__(self, columns: int, horizon: int, width: int, heads: int, layers: int) -> None:
        """Build for chunks of at most `horizon` rows."""
        super().__init__()
        self.enter = nn.Linear(columns, width)
        self.positions = learned_positions(horizon, width)
        self.time = _Time(width)
        self.blocks = nn.ModuleList(Block(width, heads, cross=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, columns)

    def forward(self, noisy: Tensor, time: Tensor, context: Context) -> Tensor:
        """Denoise `noisy` (M, H, A) at `time` (M,), 0 for data to 1 for noise; return (M, H, A)."""
        at = self.time(time)[:, None]
        memory = torch.cat([context.tokens, at], dim=1)
        tokens = self.enter(noisy) + self.positions[: noisy.shape[1]] + at + context.summary[:, None]
        for block in self.blocks:
            tokens, _ = block(tokens, context=memory)
        clean: Tensor = self.leave(self.norm(tokens))
        return clean


class UNetDenoiser(nn.Module):
    """1-D U-Net along time with `levels` resolutions, modulated by context and time (FiLM, Perez et al. 2018)."""

    def __init__(self, columns: int, width: int, levels: int) -> None:
        """Build; any horizon works: chunks are padded with their last row to a multiple of 2 ** (levels - 1)."""
        super().__init__()
        self.step = 2 ** (levels - 1)
        self.time = _Time(width)
        widths = [width * 2**level for level in range(levels)]
        self.enter = nn.Conv1d(columns, width, 1)
        self.down = nn.ModuleList(
            _Residual(before, after, 2 * width) for before, after in zip([width, *widths], widths, strict=False)
        )
        self.shrink = nn.ModuleList(nn.Conv1d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.middle = _Residual(widths[-1], widths[-1], 2 * width)
        self.grow = nn.ModuleList(nn.ConvTranspose1d(2 * w, w, 4, stride=2, padding=1) for w in reversed(widths[:-1]))
        self.up = nn.ModuleList(_Residual(2 * w, w, 2 * width) for w in reversed(widths[:-1]))
        self.leave = nn.Conv1d(width, columns, 1)

    def forward(self, noisy: Tensor, time: Tensor, context: Context) -> Tensor:
        """Denoise `noisy` (M, H, A) at `time` (M,), 0 for data to 1 for noise; return (M, H, A)."""
        condition = torch.cat([context.summary, self.time(time)], dim=-1)
        rows = noisy.shape[1]
        missing = -rows % self.step
        x = torch.cat([noisy, noisy[:, -1:].expand(-1, missing, -1)], dim=1).transpose(1, 2)
        x, kept = self.enter(x), []
        for level, block in enumerate(self.down):
            x = block(x, condition)
            if level < len(self.shrink):
                kept.append(x)
                x = self.shrink[level](x)
        x = self.middle(x, condition)
        for grow, block in zip(self.grow, self.up, strict=True):
            x = block(torch.cat([grow(x), kept.pop()], dim=1), condition)
        clean: Tensor = self.leave(x)
        return clean.transpose(1, 2)[:, :rows]


class _Residual(nn.Module):
    def __init__(self, before: int, after: int, condition: int) -> None:
        super().__init__()
        groups = 8 if after % 8 == 0 else 1
        self.first = nn.Sequential(nn.Conv1d(before, after, 5, padding=2), nn.GroupNorm(groups, after), nn.SiLU())
        self.second = nn.Sequential(nn.Conv1d(after, after, 5, padding=2), nn.GroupNorm(groups, after), nn.SiLU())
        self.film = nn.Linear(condition, 2 * after)
        self.skip = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[..., None].chunk(2, dim=1)
        changed: Tensor = self.second(self.first(x) * (1.0 + scale) + shift)
        kept: Tensor = self.skip(x)
        return changed + kept
