"""Conditioning of networks that sample actions from noise: images, words and state in few tokens.

A denoiser runs many times for one chunk, so whatever it attends to each time must be small. A few queries, conditioned
on instruction and state, attend to all image tokens once (cross-attention, as in Perceiver, Jaegle et al. 2021); their
results, the instruction and the state are the context of every denoising step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.models.batch import ModelInput, ModelTarget
from vla_ros.models.configuration import Sizes
from vla_ros.models.layers.attention import Block
from vla_ros.models.layers.encoders import (
    ImageEncoder,
    StateEncoder,
    TextEncoder,
    learned_positions,
    mean_over_words,
    repeat_scenes,
)
from vla_ros.models.layers.scene import named_image_encoder, named_text_encoder
from vla_ros.models.trunk_encoders import TrunkImageEncoder, TrunkTextEncoder, grounding_vector


@dataclass(frozen=True)
class Context:
    """Context of M = B * N pairs of scene and instruction.

    Attributes:
        tokens: (M, L, D), for cross-attention.
        summary: (M, D), for networks that take one vector.
        attention: Camera to (M, h', w'), attention of the queries; each map sums to 1.
        target: (M, 3), predicted position of the named object, normalized.
        target_visible: (M,), logits that the object is there.
    """

    tokens: Tensor
    summary: Tensor
    attention: dict[str, Tensor]
    target: Tensor
    target_visible: Tensor


class ContextEncoder(nn.Module):
    """Encoder of the context of a denoiser; see the module."""

    def __init__(
        self,
        cameras: Sizes,
        vocabulary: int,
        state_width: int,
        *,
        words: int,
        width: int,
        heads: int,
        patch: int,
        depth: int,
        queries: int,
        vision: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
    ) -> None:
        """Build with `depth` blocks over each image and over the instruction, and with `queries` queries.

        `vision` and `text` name encoders in place of these blocks; if both are trunks, the positions of the named
        object and its goal that they predict are added to the context.
        """
        super().__init__()
        self.images = (
            ImageEncoder(cameras, width, patch, depth, heads)
            if vision is None
            else named_image_encoder(cameras, vision)
        )
        self.text = (
            TextEncoder(vocabulary, width, words, max(1, depth), heads)
            if text is None
            else named_text_encoder(vocabulary, words, text)
        )
        self.image_projection, self.text_projection = (
            _to_width(part.width, width) for part in (self.images, self.text)
        )
        self.found = None
        told = queries + 2
        if isinstance(self.images, TrunkImageEncoder) and isinstance(self.text, TrunkTextEncoder):
            self.found = nn.ModuleDict({name: nn.Linear(self.images.maps.grounding_width, width) for name in cameras})
            told += len(cameras)
        self.state = StateEncoder(state_width, width)
        self.queries = learned_positions(queries, width)
        self.sentence = nn.Linear(width, width)
        self.look = Block(width, heads, cross=True)
        self.norm = nn.LayerNorm(width)
        self.join = nn.Sequential(nn.Linear(told * width, width), nn.GELU(), nn.Linear(width, width))
        self.target = nn.Linear(width, 3)
        self.present = nn.Linear(width, 1)

    def forward(self, inputs: ModelInput, look: bool = False) -> Context:
        """Encode; each image once, whatever the number of instructions for its scene."""
        scenes, sentences, length = inputs.tokens.shape
        flat = inputs.tokens.reshape(scenes * sentences, length)
        words, real = self.text(flat)
        sentence = mean_over_words(self.text_projection(words), real)[:, None]
        images, found_tokens = inputs.images, []
        if self.found is not None:
            assert isinstance(self.images, TrunkImageEncoder)
            assert isinstance(self.text, TrunkTextEncoder)
            images = self.images.maps.features(inputs.images)
            questions = self.text.read(flat)[2].unflatten(0, (scenes, sentences))
            for name, found in self.images.maps.ground(images, questions).items():
                found_tokens.append(self.found[name](grounding_vector(found))[:, None])
        seen = repeat_scenes(self.image_projection(self.images(images)), sentences)
        state = repeat_scenes(self.state(inputs.state[:, None]), sentences)
        asked = self.queries + self.sentence(sentence) + state
        found, weights = self.look(asked, context=seen, look=look)
        tokens = self.norm(torch.cat([found, sentence, state, *found_tokens], dim=1))
        summary = self.join(tokens.flatten(1))
        attention = {} if weights is None else self.images.looks(weights.mean(dim=1))
        return Context(tokens, summary, attention, self.target(summary), self.present(summary)[:, 0])


def _to_width(before: int, width: int) -> nn.Module:
    return nn.Identity() if before == width else nn.Linear(before, width)


def belief_losses(context: Context, target: ModelTarget) -> dict[str, Tensor]:
    """Return the losses of the named object's position (if the target has it) and presence."""
    there = target.target_visible.flatten()
    presence = functional.binary_cross_entropy_with_logits(context.target_visible, there)
    parts = {"present": 0.2 * presence}
    if target.target is not None:
        places = functional.smooth_l1_loss(context.target, target.target.flatten(0, 1), reduction="none", beta=0.1)
        parts["target"] = mean_where(places.mean(dim=-1), there)
    return parts


def mean_where(values: Tensor, there: Tensor) -> Tensor:
    """Average `values` (M,) over the rows marked 1 in `there` (M,); 0 if there are none."""
    return (values * there).sum() / there.sum().clamp(min=1.0)
