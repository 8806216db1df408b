"""Vision of the compositional network: classes at every image cell, and positions of an object and its goal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_ros.models.layers.pointing import spatial_expectation
from vla_ros.models.layers.precision import full_precision


@dataclass(frozen=True)
class TargetFeatures:
    """Target features of one camera for N instructions; the only vision input of the action head.

    Attributes:
        thing: (B, N, width): evidence, sharpness, position and appearance of the object.
        goal: (B, N, width): the same for the goal.
        free: (B, 2 * free_points): keypoints independent of the instruction.
    """

    thing: Tensor
    goal: Tensor
    free: Tensor


@dataclass(frozen=True)
class View:
    """Vision output of one camera: target features, and the intermediate maps for supervision.

    Attributes:
        target_features: Basis of the decision.
        thing_look: (B, N, h', w') attention weights for the object.
        goal_look: The same for the goal.
        colour: (B, colours + 1, h'w') log probabilities; the last class: none.
        kind: (B, kinds + 1, h'w') the same for kinds of objects.
    """

    target_features: TargetFeatures
    thing_look: Tensor
    goal_look: Tensor
    colour: Tensor
    kind: Tensor


class VisionEncoder(nn.Module):
    """Vision encoder of one camera: convolutions, per-cell classes, and attention to object and goal."""

    def __init__(self, channels: int, colours: int, kinds: int, free_points: int) -> None:
        """Build with random weights; cells are four pixels wide."""
        super().__init__()
        self.near = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(24, 36, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.trunk = nn.Sequential(
            nn.Conv2d(36, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        self.colour = nn.Sequential(nn.Conv2d(36, 32, 1), nn.ReLU(), nn.Conv2d(32, colours + 1, 1))
        self.kind = nn.Conv2d(channels, kinds + 1, 1)
        self.free = nn.Conv2d(channels, free_points, 1)
        self.keep = nn.Conv2d(channels, channels // 2, 1)
        self.sharpen = nn.Parameter(torch.ones(2))

    def forward(self, image: Tensor, probs: Mapping[str, Tensor]) -> View:
        """Encode images (B, 3, h, w) and attend to the concepts, given as class probabilities (B, N, classes)."""
        # channels_last is a tenth faster on a CPU.
        near = self.near((image - 0.5).contiguous(memory_format=torch.channels_last))
        seen = self.trunk(near)
        size = seen.shape[-2:]
        output = [self.colour(near), self.kind(seen), self.keep(seen), self.free(seen)]
        with full_precision(image):
            colour, kind, kept, free = (values.flatten(2).to(self.sharpen.dtype) for values in output)
            return self._view(colour, kind, kept, free, probs, size)

    def _view(
        self,
        colour: Tensor,
        kind: Tensor,
        kept: Tensor,
        free: Tensor,
        probs: Mapping[str, Tensor],
        size: tuple[int, int],
    ) -> View:
        colour, kind = colour.log_softmax(dim=1), kind.log_softmax(dim=1)
        free = spatial_expectation(free.softmax(dim=-1), size)
        thing, thing_look = self._look(colour, kind, kept, probs["colour"], probs["kind"], size)
        goal_colour, goal_kind = probs["goal_colour"][..., :-1], probs["goal_kind"][..., :-1]
        goal, goal_look = self._look(colour, kind, kept, goal_colour, goal_kind, size)
        return View(TargetFeatures(thing, goal, free.flatten(1)), thing_look, goal_look, colour, kind)

    def _look(
        self,
        colour: Tensor,
        kind: Tensor,
        kept: Tensor,
        wanted_colour: Tensor,
        wanted_kind: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Return features (B, N, width) of the attended target, and the weights (B, N, h', w')."""
        scores = self.sharpen[0] * (wanted_colour @ colour[:, :-1]) + self.sharpen[1] * (wanted_kind @ kind[:, :-1])
        weights = scores.softmax(dim=-1)  # (B, N, h'w')
        best = 0.1 * scores.amax(dim=-1, keepdim=True)
        features = [
            best,
            weights.amax(dim=-1, keepdim=True),
            spatial_expectation(weights, size),
            weights @ kept.transpose(1, 2),
        ]
        return torch.cat(features, dim=-1), weights.unflatten(-1, size)
