"""Low memory: EfficientNet (Tan and Le 2019) and DistilBERT (Sanh et al. 2019), with gradient checkpointing.

Checkpointing (Chen et al. 2016) stores only the inputs of a tower's blocks; the rest is recomputed in the backward
pass. A tower checkpointed as a whole would save little: the backward pass would hold all of it in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vla_ros.errors import ContractError
from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget
from vla_ros.models.configuration import TowerConfig
from vla_ros.models.contract import Backbone, VlaModel
from vla_ros.models.layers.backbones import IMAGENET, build_tower, choose_norm, padding_mask, standardize
from vla_ros.models.layers.encoders import learned_positions, mean_over_words, repeat_scenes
from vla_ros.models.layers.scene import cached_shape, named_backbones, named_text_encoder
from vla_ros.models.losses import chunk_losses, total
from vla_ros.models.networks.regression import ChunkHead
from vla_ros.models.trunk import KIND
from vla_ros.models.trunk_encoders import TrunkMaps, is_trunk_line


@dataclass(frozen=True)
class MemoryEfficientConfig(TowerConfig):
    """Configuration of the network; `vision` holds sizes of EfficientNet, by default B0.

    Attributes:
        text: Sizes of DistilBERT, whose vocabulary and length are set here; or a trunk in its place.
        looks: Number of attention queries of an instruction per image.
        checkpointing: Recompute the towers' activations in the backward pass instead of storing them.
        width: Width of the fused features.
    """

    text: Mapping[str, Any] | None = None
    looks: int = 4
    checkpointing: bool = True
    width: int = 128


class MemoryEfficientModel(VlaModel):
    """EfficientNet and DistilBERT with gradient checkpointing; see the module."""

    Config = MemoryEfficientConfig
    TINY: ClassVar = {
        "vision": {
            "width_coefficient": 0.25,
            "depth_coefficient": 0.25,
            "drop_connect_rate": 0.0,
            "strides": [1, 2, 2, 2, 1, 1, 1],
        },
        "text": {"dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 96, "dropout": 0.0, "attention_dropout": 0.0},
        "shrink": 2,
        "width": 64,
        "hidden": 128,
    }
    FULL: ClassVar = {  # EfficientNet-B0 and DistilBERT (base, uncased)
        "cameras": {"front": [224, 224], "wrist": [224, 224]},
        "vocabulary": 30522,
        "state_width": 10,
        "horizon": 16,
        "words": 512,
        "vision": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224},
        "text": {},
        "width": 512,
        "hidden": 512,
    }
    BACKBONES: ClassVar = {"vision": ("efficientnet", KIND), "text": ("distilbert", KIND)}
    config: MemoryEfficientConfig

    def __init__(self, config: MemoryEfficientConfig) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        self.vision: nn.Module = (
            TrunkMaps(config.cameras, config.vision or {})
            if is_trunk_line(config.vision)
            else choose_norm(build_tower("efficientnet", _vision_values(config.vision or {})), config.norm)
        )
        self.text: nn.Module
        if is_trunk_line(config.text):
            named = named_text_encoder(config.vocabulary, config.words, config.text or {})
            self.text, read = named, named.width
        else:
            text = {**(config.text or {}), "vocab_size": config.vocabulary, "max_position_embeddings": config.words}
            tower = build_tower("distilbert", text)
            self.text, read = tower, int(tower.config.dim)
        with torch.no_grad():
            grids = {n: tuple(self._encode_image(torch.zeros(1, 3, *s)).shape[1:]) for n, s in config.cameras.items()}
        self.grids = {name: (grid[1], grid[2]) for name, grid in grids.items()}
        self.patch = nn.Sequential(nn.Linear(next(iter(grids.values()))[0], config.width), nn.LayerNorm(config.width))
        self.positions = nn.ParameterDict(
            {name: learned_positions(h * w, config.width) for name, (h, w) in self.grids.items()}
        )
        self.sentence = nn.Sequential(nn.Linear(read, config.width), nn.LayerNorm(config.width))
        self.film = nn.Linear(config.width, 2 * config.width)
        self.asks = nn.ModuleDict({n: nn.Linear(config.width, config.looks * config.width) for n in config.cameras})
        fused = (1 + config.looks * len(config.cameras)) * config.width + config.state_width
        self.head = ChunkHead(fused, config.hidden, config.horizon, config.action)

    def backbones(self) -> dict[str, Backbone]:
        """Return both towers, or halves of a trunk; published weights of EfficientNet require `norm: frozen`."""
        parts, own = named_backbones(self.vision, self.text), ("word_embeddings.weight", "position_embeddings.weight")
        if "vision" not in parts:
            parts["vision"] = Backbone(self.vision)
        if "text" not in parts:
            text: Any = self.text  # of Transformers
            parts["text"] = Backbone(text, own, text.get_input_embeddings())
        return parts

    def cached_shape(self, camera: str) -> tuple[int, int, int] | None:
        """Return the shape of the feature map that may replace a camera's image."""
        return cached_shape(self.config, self.vision, camera)

    def predict(self, inputs: ModelInput) -> ModelOutput:
        """Predict a chunk for every instruction of every scene; images are encoded once per scene."""
        self.check(inputs)
        config = self.config
        pairs = (inputs.tokens.shape[0], inputs.tokens.shape[1])
        sentence = self.sentence(self._encode_text(inputs.tokens.flatten(0, 1)))
        scale, shift = self.film(sentence)[:, None].chunk(2, dim=-1)
        found, attention = [], {}
        for name in config.cameras:
            patches = (
                self.patch(self._encode_image(inputs.images[name]).flatten(2).transpose(1, 2)) + self.positions[name]
            )
            patches = functional.gelu(repeat_scenes(patches, pairs[1]) * (1.0 + scale) + shift)
            asked = self.asks[name](sentence).unflatten(-1, (config.looks, config.width))
            weights = (asked @ patches.transpose(1, 2) / config.width**0.5).softmax(dim=-1)  # (M, looks, P)
            found.append((weights @ patches).flatten(1))
            attention[name] = weights.mean(dim=1).unflatten(-1, self.grids[name])
        state = repeat_scenes(inputs.state, pairs[1])
        output: ModelOutput = self.head(torch.cat([*found, sentence, state], dim=-1), pairs, attention)
        return output

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the chunk, if the object is there, and of the object's position and presence."""
        self.check(inputs, target)
        return total(chunk_losses(self.predict(inputs), target, self.config.action))

    def _encode_image(self, image: Tensor) -> Tensor:
        """Return EfficientNet's last feature map (B, C, h', w'), block by block; or a trunk's."""
        if isinstance(self.vision, TrunkMaps):
            return self.vision.map(image)
        if self.config.shrink > 1:
            image = functional.avg_pool2d(image, self.config.shrink)
        tower: Any = self.vision  # of Transformers
        seen, encoder = tower.embeddings(standardize(image, *IMAGENET)), tower.encoder
        for block in encoder.blocks:
            seen = self._run(block, seen)
        return self._run(lambda x: encoder.top_activation(encoder.top_bn(encoder.top_conv(x))), seen)

    def _encode_text(self, tokens: Tensor) -> Tensor:
        """Return (M, D): DistilBERT's features, block by block, averaged over the words of (M, T); or a trunk's."""
        if is_trunk_line(self.config.text):
            return mean_over_words(*self.text(tokens))
        mask = padding_mask(tokens)
        open_to = mask.bool()[:, None, None, :].expand(-1, 1, tokens.shape[1], -1)
        tower: Any = self.text  # of Transformers
        features = tower.embeddings(tokens)
        for block in tower.transformer.layer:
            features = self._run(partial(block, attention_mask=open_to), features)
        return mean_over_words(features, mask.bool())

    def _run(self, block: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        if self.config.checkpointing and torch.is_grad_enabled():
            done: Tensor = checkpoint(block, values, use_reentrant=False)
            return done
        return block(values)


def _vision_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return sizes with a consistent last layer: Transformers takes its width from two fields that must agree."""
    values = {"width_coefficient": 1.0, "depth_coefficient": 1.0, **values}
    scale, step = float(values["width_coefficient"]), int(values.get("depth_divisor", 8))
    if scale <= 0 or step < 1:
        raise ContractError(f"EfficientNet: width_coefficient is {scale} and depth_divisor {step}, expected above 0")
    rounded = max(step, int(1280 * scale + step / 2) // step * step)
    rounded += step if rounded < 0.9 * 1280 * scale else 0
    return {**values, "hidden_dim": rounded}
