"""Attention and the pre-norm transformer block (Vaswani et al. 2017; Xiong et al. 2020).

Masks are boolean and True where a query may attend to a key, as in `torch.nn.functional.scaled_dot_product_attention`.
Shapes: M sequences, Q queries, K keys, D channels per token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.errors import ContractError


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """Return the causal mask (queries, keys), where the queries are the last of the keys."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


class KeyValueCache:
    """Keys and values of earlier tokens of one attention, so that only new tokens are computed."""

    def __init__(self) -> None:
        """Start empty."""
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (M, heads, K, D / heads) and return all keys and values."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Attention(nn.Module):
    """Multi-head attention: self-attention, or cross-attention if a context is passed."""

    def __init__(self, width: int, heads: int) -> None:
        """Build for tokens of `width`, a multiple of `heads`."""
        super().__init__()
        if heads < 1 or width % heads:
            raise ContractError(f"width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        tokens: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        look: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output (M, Q, D) and, with `look`, the weights (M, Q, K), averaged over heads.

        Args:
            tokens: (M, Q, D), the queries.
            context: (M, K, D) to attend to; `tokens` themselves when None.
            mask: Broadcasts to (M, 1, Q, K).
            cache: Keys and values of earlier calls; extended here.
            look: Compute the weights explicitly and return them.
        """
        query = self._split(self.query(tokens))
        key, value = (self._split(part) for part in self.key_value(tokens if context is None else context).chunk(2, -1))
        if cache is not None:
            key, value = cache.extend(key, value)
        if not look:
            gathered = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            return self.out(_join(gathered)), None
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        weights = scores.softmax(dim=-1)
        return self.out(_join(weights @ value)), weights.mean(dim=1)

    def _split(self, tokens: Tensor) -> Tensor:
        """(M, K, D) to (M, heads, K, D / heads)."""
        heads: Tensor = tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads


def _join(tokens: Tensor) -> Tensor:
    return tokens.transpose(1, 2).flatten(2)


class Block(nn.Module):
    """Self-attention, optional cross-attention, and an MLP, each with a residual connection."""

    def __init__(self, width: int, heads: int, cross: bool = False, expansion: int = 4) -> None:
        """Build; the MLP is `expansion` times as wide as a token."""
        super().__init__()
        self.self_norm, self.self_attention = nn.LayerNorm(width), Attention(width, heads)
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.cross_attention = Attention(width, heads) if cross else None
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        look: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (M, Q, D) and, with `look`, the weights over the context, or over the tokens without one."""
        crosses = self.cross_attention is not None
        found, weights = self.self_attention(self.self_norm(tokens), None, mask, cache, look and not crosses)
        tokens = tokens + found
        if self.cross_attention is not None and self.cross_norm is not None:
            found, weights = self.cross_attention(self.cross_norm(tokens), context, context_mask, look=look)
            tokens = tokens + found
        return tokens + self.perceptron(tokens), weights


class CausalTransformer(nn.Module):
    """Decoder-only transformer: no token depends on a later one."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        """Build `depth` blocks and a final normalization."""
        super().__init__()
        self.width = width
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def new_cache(self) -> list[KeyValueCache]:
        """Return empty caches, one per block."""
        return [KeyValueCache() for _ in self.blocks]

    def forward(
        self, tokens: Tensor, real: Tensor, cache: Sequence[KeyValueCache] | None = None, look: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return (M, Q, D) and, with `look`, the weights (M, Q, K), averaged over heads and blocks.

        Args:
            tokens: (M, Q, D); with a cache, those that follow its content.
            real: (M, K) bool, False for padding, for all tokens so far; the first must be True.
            cache: From `new_cache`; extended here.
            look: Compute and return the weights.
        """
        mask = causal_mask(tokens.shape[1], real.shape[1], tokens.device) & real[:, None, None, :]
        looks = []
        for index, block in enumerate(self.blocks):
            tokens, weights = block(tokens, mask, cache=None if cache is None else cache[index], look=look)
            looks.append(weights)
        return self.norm(tokens), torch.stack(looks).mean(dim=0) if look else None
