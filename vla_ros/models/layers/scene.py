"""Configuration and encoders shared by the networks over image patches and words."""

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
"""Fields that the tiny configurations share."""


@dataclass(frozen=True)
class SceneConfig(TransformerConfig):
    """Configuration of a transformer that reads the scene as tokens.

    Attributes:
        stem: "convolution" or "patch", see `ImageEncoder`.
        image_width: Size of an image token before its projection; 0: that of all other tokens.
        image_depth: Number of blocks over each image.
        image_heads: Attention heads of these blocks.
        vision: Trunk or published vision transformer in place of the fields above and of `patch`:
            {"kind": ..., sizes}, see `published.IMAGE_KINDS`.
        hidden_state: Fraction of the scenes whose state is masked in training, see `StateEncoder`.
    """

    words: int = 32
    stem: str = CONVOLUTION_STEM
    image_width: int = 128
    image_depth: int = 1
    image_heads: int = 4
    vision: Mapping[str, Any] | None = None
    hidden_state: float = 0.3


def build_image_encoder(config: SceneConfig) -> ImageTokens:
    """Build the image encoder with random weights."""
    c = config
    if c.vision is not None:
        return named_image_encoder(c.cameras, c.vision)
    return ImageEncoder(c.cameras, c.image_width or c.width, c.patch, c.image_depth, c.image_heads, c.stem)


def named_image_encoder(cameras: Sizes, values: Mapping[str, Any]) -> ImageTokens:
    """Build the image encoder that a configuration field names, with random weights."""
    return TrunkImageEncoder(cameras, values) if is_trunk_line(values) else PublishedImageEncoder(cameras, values)


def named_text_encoder(
    vocabulary: int, words: int, values: Mapping[str, Any]
) -> TrunkTextEncoder | PublishedTextEncoder:
    """Build the text encoder that a configuration field names, with random weights."""
    kind = TrunkTextEncoder if is_trunk_line(values) else PublishedTextEncoder
    return kind(vocabulary, words, values)


class ProjectedText(nn.Module):
    """Text encoder whose tokens are projected to another width."""

    def __init__(self, encoder: TrunkTextEncoder | PublishedTextEncoder, width: int) -> None:
        """Append a linear layer to `encoder`."""
        super().__init__()
        self.encoder, self.width = encoder, width
        self.projection = nn.Linear(encoder.width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (M, T, width) of tokens (M, T), 0 at padding, and the word mask, (M, T) bool."""
        words, real = self.encoder(tokens)
        return self.projection(words) * real[..., None], real


def named_backbones(images: nn.Module | None, text: nn.Module | None) -> dict[str, Backbone]:
    """Return the trunks and published networks among two encoders, by field, as `VlaModel.backbones` does."""
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
    """Return `VlaModel.cached_shape` of a network whose image encoder is `images`."""
    maps = images.maps if isinstance(images, TrunkImageEncoder) else images
    if not config.freeze or not isinstance(maps, TrunkMaps):
        return None
    return maps.channels, *maps.grids[camera]
