"""Little memory: EfficientNet (Tan and Le 2019) and DistilBERT (Sanh et al. 2019), with gradient checkpointing.

Checkpointing (Chen et al. 2016) keeps only what enters a block of a tower; the rest is computed again on the way back.
A tower checkpointed as one piece would save little: on the way back all of it is there again at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vla_ros.errors import ContractError
from vla_ros.models.backbones import IMAGENET, build_tower, choose_norm, padding_mask, standardise
from vla_ros.models.contract import ModelInput, ModelOutput, ModelTarget, VlaModel
from vla_ros.models.encoders import check_input, learned_positions, mean_over_words, read_config, repeat_scenes
from vla_ros.models.regression import ChunkHead, chunk_losses, total


@dataclass(frozen=True)
class MemoryEfficientConfig:
    """Sizes of the network.

    Attributes:
        cameras: Camera name to (height, width) of its images.
        vocabulary: How many words there are.
        state_width: Numbers of proprioception.
        horizon: Rows a chunk.
        words: Most words of a sentence.
        vision: Sizes of EfficientNet, as `backbones.build_tower` takes them; B0 where they say nothing.
        text: Sizes of DistilBERT; its vocabulary and length are set here.
        shrink: The pictures' sides are divided by this (means of squares) before anything looks at them.
        looks: Places in each picture that a sentence may look at.
        norm: Normalisation of EfficientNet: "group" to train from nothing, "frozen" with published weights, "batch".
        checkpointing: Compute the towers' inner values again on the way back instead of keeping them.
        width: Of the fused features.
        hidden: Width of the head.
    """

    cameras: Mapping[str, tuple[int, int]]
    vocabulary: int
    state_width: int
    horizon: int
    words: int = 16
    vision: Mapping[str, Any] | None = None
    text: Mapping[str, Any] | None = None
    shrink: int = 1
    looks: int = 4
    norm: str = "group"
    checkpointing: bool = True
    width: int = 128
    hidden: int = 256


class MemoryEfficientModel(VlaModel):
    """See the module."""

    def __init__(self, config: MemoryEfficientConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config = config
        self.vision = choose_norm(build_tower("efficientnet", _vision_values(config.vision or {})), config.norm)
        text = {**(config.text or {}), "vocab_size": config.vocabulary, "max_position_embeddings": config.words}
        self.text = build_tower("distilbert", text)
        with torch.no_grad():
            grids = {n: tuple(self._see(torch.zeros(1, 3, *s)).shape[1:]) for n, s in config.cameras.items()}
        self.grids = {name: (grid[1], grid[2]) for name, grid in grids.items()}
        self.patch = nn.Sequential(nn.Linear(next(iter(grids.values()))[0], config.width), nn.LayerNorm(config.width))
        self.positions = nn.ParameterDict(
            {name: learned_positions(h * w, config.width) for name, (h, w) in self.grids.items()}
        )
        self.sentence = nn.Sequential(nn.Linear(self.text.config.dim, config.width), nn.LayerNorm(config.width))
        self.film = nn.Linear(config.width, 2 * config.width)
        self.asks = nn.ModuleDict({n: nn.Linear(config.width, config.looks * config.width) for n in config.cameras})
        fused = (1 + config.looks * len(config.cameras)) * config.width + config.state_width
        self.head = ChunkHead(fused, config.hidden, config.horizon)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MemoryEfficientModel:
        """Build from plain values, as they stand in a checkpoint."""
        return cls(read_config(MemoryEfficientConfig, config))

    def act(self, given: ModelInput) -> ModelOutput:
        """Predict a chunk for every sentence about every scene; the pictures are seen once a scene."""
        config = self.config
        check_input(given, config.cameras, config.vocabulary, config.state_width, config.words)
        pairs = (given.tokens.shape[0], given.tokens.shape[1])
        sentence = self.sentence(self._read(given.tokens.flatten(0, 1)))
        scale, shift = self.film(sentence)[:, None].chunk(2, dim=-1)
        found, attention = [], {}
        for name in config.cameras:
            patches = self.patch(self._see(given.images[name]).flatten(2).transpose(1, 2)) + self.positions[name]
            patches = functional.gelu(repeat_scenes(patches, pairs[1]) * (1.0 + scale) + shift)
            asked = self.asks[name](sentence).unflatten(-1, (config.looks, config.width))
            weights = (asked @ patches.transpose(1, 2) / config.width**0.5).softmax(dim=-1)  # (M, looks, P)
            found.append((weights @ patches).flatten(1))
            attention[name] = weights.mean(dim=1).unflatten(-1, self.grids[name])
        state = repeat_scenes(given.state, pairs[1])
        return self.head(torch.cat([*found, sentence, state], dim=-1), pairs, attention)

    def compute_loss(self, given: ModelInput, wanted: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss: the chunk where the object is there, its place, and whether it is there."""
        return total(chunk_losses(self.act(given), wanted))

    def _see(self, image: Tensor) -> Tensor:
        """Return EfficientNet's last feature map (B, C, h', w'), block by block."""
        if self.config.shrink > 1:
            image = functional.avg_pool2d(image, self.config.shrink)
        seen = self.vision.embeddings(standardise(image, *IMAGENET))
        encoder = self.vision.encoder
        for block in encoder.blocks:
            seen = self._run(block, seen)
        return self._run(lambda x: encoder.top_activation(encoder.top_bn(encoder.top_conv(x))), seen)

    def _read(self, tokens: Tensor) -> Tensor:
        """Return (M, D), the mean of DistilBERT's features over the words of (M, T), block by block."""
        mask = padding_mask(tokens)
        open_to = mask.bool()[:, None, None, :].expand(-1, 1, tokens.shape[1], -1)
        features = self.text.embeddings(tokens)
        for block in self.text.transformer.layer:
            features = self._run(lambda x, block=block: block(x, attention_mask=open_to), features)
        return mean_over_words(features, mask.bool())

    def _run(self, block: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        if self.config.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, values, use_reentrant=False)
        return block(values)


def _vision_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return sizes whose last layer fits: Transformers takes its width from two places that have to agree."""
    values = {"width_coefficient": 1.0, "depth_coefficient": 1.0, **values}
    scale, step = float(values["width_coefficient"]), int(values.get("depth_divisor", 8))
    if scale <= 0 or step < 1:
        raise ContractError(f"EfficientNet: width_coefficient is {scale} and depth_divisor {step}, expected above 0")
    rounded = max(step, int(1280 * scale + step / 2) // step * step)
    rounded += step if rounded < 0.9 * 1280 * scale else 0
    return {**values, "hidden_dim": rounded}


def tiny_config(
    cameras: Mapping[str, tuple[int, int]], vocabulary: int, state_width: int, horizon: int
) -> dict[str, Any]:
    """Return sizes that train on one CPU core."""
    return {
        "cameras": dict(cameras), "vocabulary": vocabulary, "state_width": state_width, "horizon": horizon,
        "vision": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "drop_connect_rate": 0.0,
                   "strides": [1, 2, 2, 2, 1, 1, 1]},
        "text": {"dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 96, "dropout": 0.0, "attention_dropout": 0.0},
        "shrink": 2, "width": 64, "hidden": 128,
    }  # fmt: skip


def full_config() -> dict[str, Any]:
    """Return the sizes of EfficientNet-B0 and of DistilBERT (base, uncased) for two cameras of 224 x 224."""
    return {
        "cameras": {"front": (224, 224), "wrist": (224, 224)}, "vocabulary": 30522, "state_width": 10, "horizon": 16,
        "words": 512, "vision": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224}, "text": {},
        "width": 512, "hidden": 512,
    }  # fmt: skip
