"""What the networks over image patches and words share: their configuration, and the encoder of their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vla_ros.models.configuration import TransformerConfig
from vla_ros.models.encoders import CONVOLUTION_STEM, ImageEncoder, ImageTokens
from vla_ros.models.published import PublishedImageEncoder

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
        vision: A published vision transformer in the place of the lines above and of `patch`: {"kind": ..., sizes},
            see `published.IMAGE_KINDS`.
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
        return PublishedImageEncoder(c.cameras, c.vision)
    return ImageEncoder(c.cameras, c.image_width or c.width, c.patch, c.image_depth, c.image_heads, c.stem)
