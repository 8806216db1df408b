"""What the networks over image patches and words share: their configuration, and the encoder of their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vla_ros.models.configuration import ModelConfig, Sizes, TransformerConfig
from vla_ros.models.contract import Backbone
from vla_ros.models.layers.encoders import CONVOLUTION_STEM, ImageEncoder, ImageTokens
from vla_ros.models.layers.published import PublishedImageEncoder, PublishedTextEncoder
from vla_ros.models.trunk_encoders import TrunkImageEncoder, TrunkMaps, TrunkTextEncoder, is_trunk_line

TINY = {"words": 16, "patch": 32, "image_depth": 0, "width": 64}
"""Lines that the tiny configurations share."""


@dataclass(frozen=True)
class SceneConfig(TransformerConfig):
    """A transformer that is told the scene in tokens.

    Attributes:
        stem: "convolution" or "patch", see `ImageEncoder`.
        image_width: Numbers an image token has before its projection; 0 for those of every other token.
        image_depth: Blocks over each picture.
        image_heads: Of these blocks.
        vision: A trunk, or a published vision transformer, in the place of the lines above and of `patch`:
            {"kind": ..., sizes}, see `published.IMAGE_KINDS`.
        hidden_state: Share of the scenes whose state is hidden while training, see `StateEncoder`.
    """

    words: int = 32
    stem: str = CONVOLUTION_STEM
    image_width: int = 128
    image_depth: int = 1
    image_heads: int = 4
    vision: Mapping[str, Any] | None = None
    hidden_state: float = 0.3


def build_image_encoder(config: SceneConfig) -> ImageTokens:
    """Return the encoder of pictures, with random weights."""
    c = config
    if c.vision is not None:
        return named_image_encoder(c.cameras, c.vision)
    return ImageEncoder(c.cameras, c.image_width or c.width, c.patch, c.image_depth, c.image_heads, c.stem)


def named_image_encoder(cameras: Sizes, values: Mapping[str, Any]) -> ImageTokens:
    """Return the encoder of pictures that a line of a configuration names, with random weights."""
    return TrunkImageEncoder(cameras, values) if is_trunk_line(values) else PublishedImageEncoder(cameras, values)


def named_text_encoder(
    vocabulary: int, words: int, values: Mapping[str, Any]
) -> TrunkTextEncoder | PublishedTextEncoder:
    """Return the encoder of sentences that a line of a configuration names, with random weights."""
    kind = TrunkTextEncoder if is_trunk_line(values) else PublishedTextEncoder
    return kind(vocabulary, words, values)


class ProjectedText(nn.Module):
    """An encoder of sentences whose tokens are brought to a width."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        """Put a linear layer behind `encoder`."""
        super().__init__()
        self.encoder, self.width = encoder, width
        self.projection = nn.Linear(encoder.width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (M, T, width) of tokens (M, T), 0 at padding, and which are words, (M, T) bool."""
        words, real = self.encoder(tokens)
        return self.projection(words) * real[..., None], real


def named_backbones(images: nn.Module | None, text: nn.Module | None) -> dict[str, Backbone]:
    """Return those of two encoders that were named, by their lines, as `VlaModel.backbones` does."""
    parts = {}
    if isinstance(images, TrunkImageEncoder):
        images = images.maps
    if isinstance(images, TrunkMaps):
        parts["vision"] = Backbone(images.tower, owner=images)
    elif isinstance(images, PublishedImageEncoder):
        parts["vision"] = Backbone(images.tower)
    if isinstance(text, ProjectedText):
        text = text.encoder
    if isinstance(text, TrunkTextEncoder):
        parts["text"] = Backbone(text.tower, owner=text)
    elif isinstance(text, PublishedTextEncoder):
        parts["text"] = text.backbone()
    return parts


def cached_shape(config: ModelConfig, images: nn.Module | None, camera: str) -> tuple[int, int, int] | None:
    """Return what `VlaModel.cached_shape` returns, of a network whose encoder of pictures is `images`."""
    maps = images.maps if isinstance(images, TrunkImageEncoder) else images
    if not config.freeze or not isinstance(maps, TrunkMaps):
        return None
    return maps.channels, *maps.grids[camera]
