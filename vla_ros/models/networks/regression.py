"""Head that regresses the chunk directly, for networks that do not sample from noise."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from vla_ros.models.batch import ModelOutput
from vla_ros.models.columns import ActionColumns


class ChunkHead(nn.Module):
    """Predicts the chunk from a vector of scene and instruction, and optionally the object's position and presence."""

    def __init__(self, inputs: int, hidden: int, horizon: int, columns: ActionColumns, beliefs: bool = True) -> None:
        """Build an MLP with two hidden layers; without `beliefs` it predicts the chunk only."""
        super().__init__()
        self.horizon, self.columns = horizon, columns
        self.trunk = nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())
        self.chunk = nn.Linear(hidden, horizon * columns.width)
        self.target = nn.Linear(hidden, 3) if beliefs else None
        self.present = nn.Linear(hidden, 1) if beliefs else None

    def forward(
        self, vector: Tensor, pairs: tuple[int, int], attention: Mapping[str, Tensor] | None = None
    ) -> ModelOutput:
        """Return the output for `vector` (B * N, inputs), unflattened to `pairs` (B, N); attention (B * N, h', w')."""
        seen = self.trunk(vector)
        chunk = self.chunk(seen).view(*pairs, self.horizon, self.columns.width)
        return ModelOutput(
            continuous=chunk[..., : self.columns.continuous],
            binary=chunk[..., self.columns.continuous :],
            target=None if self.target is None else self.target(seen).unflatten(0, pairs),
            target_visible=None if self.present is None else self.present(seen).view(pairs),
            attention={name: look.unflatten(0, pairs) for name, look in (attention or {}).items()},
        )
